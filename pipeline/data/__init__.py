"""Prepared data: one Parquet file per split and a record, from any source, checked row by row.

Readers (`lines`, `parquet`, `hub`, `demo`) make `Raw` rows that know their file and line; `table`
turns them into typed columns by a task; `prepare` publishes them; `prepared` reads them back.
"""

from pipeline.data.prepared import Prepared, load_prepared

__all__ = ["Prepared", "load_prepared"]
