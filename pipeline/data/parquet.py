"""Reader of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.raw import Raw, Wanted
from pipeline.errors import DataError


def read_parquet(path: Path, wanted: Wanted) -> Raw:
    """Read the wanted columns of a Parquet file.

    Raises:
        DataError: unreadable, or a column is missing.
    """
    try:
        with pq.ParquetFile(path) as file:
            chosen = wanted.find(file.schema_arrow.names, str(path))
            table = file.read(columns=list(chosen.values()))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet ({error}).") from None
    return from_arrow(table, chosen, str(path))


def from_arrow(table: Any, chosen: dict[str, str], file: str) -> Raw:
    """Columns of a `pyarrow.Table` as raw rows, counted from 1."""
    columns = {ours: table[name].to_pylist() for ours, name in chosen.items()}
    return Raw(file, columns, range(1, table.num_rows + 1), unit="row")
