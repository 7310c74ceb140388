"""A student's logits of whole splits as one Parquet file: split, example_id, logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.batches import Rows
from pipeline.errors import DataError
from pipeline.files import write_atomic
from pipeline.training.evaluate import Array, predict

VALIDATION_LOGITS = "validation-logits.parquet"
"""In a student's folder: of the validation splits, as the published weights give them."""

Part = tuple[str, list[int], Array]
"""Split, example ids, (N, K) float32 logits."""


def save_validation_logits(
    model: Any, splits: Mapping[str, Rows], ids: Mapping[str, list[int]], batch: int, folder: Path
) -> None:
    """Run a student over its validation rows once more, and keep what it says of each.

    Args:
        model: with its final weights.
        splits: validation rows by split, on the model's device.
        ids: example ids by split, in the order of the rows.
        batch: rows per forward pass.
        folder: the student's.
    """
    parts = ((name, ids[name], predict(model, rows, batch)) for name, rows in splits.items())
    write_atomic(folder / VALIDATION_LOGITS, logits_parquet(parts))


def logits_parquet(parts: Iterable[Part]) -> bytes:
    """The file's bytes; splits in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables(
        pa.table(
            {
                "split": pa.array([split] * len(ids), pa.string()),
                "example_id": pa.array(ids, pa.int64()),
                "logits": pa.array(logits_NK.tolist(), pa.list_(pa.float32())),
            }
        )
        for split, ids, logits_NK in parts
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def read_logits(path: Path, split: str, ids: list[int], outputs: int) -> Array:
    """(N, K) float32 logits of a split whose rows are known.

    Args:
        path: made by anyone.
        split: the one to read.
        ids: the example ids that it must have, in this order.
        outputs: K.

    Raises:
        DataError: no such file, another form, or logits of other rows; without the path.
    """
    if not path.is_file():
        raise DataError(f"no {path.name}")
    table = _read(path)
    table = table.filter(np.asarray(table["split"].to_pylist(), object) == split)
    if table["example_id"].to_pylist() != ids:
        raise DataError(f"{path.name} is of other rows than the {len(ids):,} {split} rows at hand")
    rows = table["logits"].to_pylist()
    if any(row is None or len(row) != outputs for row in rows):
        raise DataError(f"{path.name} has rows that are not {outputs} logits")
    logits_NK = np.array(rows, np.float32).reshape(len(ids), outputs)
    if not np.isfinite(logits_NK).all():
        raise DataError(f"{path.name} has logits that are not finite")
    return logits_NK


def _read(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = {"split": pa.string(), "example_id": pa.int64(), "logits": pa.list_(pa.float32())}
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError):
        raise DataError(f"{path.name} is not readable Parquet") from None
    found = {field.name: field.type for field in table.schema}
    if found != wanted:
        columns = ", ".join(f"{name} {kind}" for name, kind in found.items())
        raise DataError(f"{path.name} has the columns {columns[:80] or 'none'}")
    return table
