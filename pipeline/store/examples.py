"""The Arrow file of a split: tokens, labels and ids, in the row order of the arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.errors import CacheCorruptError
from pipeline.files import write_atomic
from pipeline.store.manifest import Split


def schema(regression: bool) -> Any:
    """Columns and types of `examples.arrow`."""
    import pyarrow as pa

    return pa.schema(
        [
            ("example_id", pa.int64()),
            ("input_ids", pa.list_(pa.int32())),
            ("token_type_ids", pa.list_(pa.int8())),
            ("label", pa.float64() if regression else pa.int64()),
            ("row_digest", pa.binary(16)),
        ]
    )


def write_examples(path: Path, table: Any) -> None:
    """Write a table as one Arrow IPC file, atomically."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    write_atomic(path, sink.getvalue().to_pybytes())


def read_examples(path: Path, regression: bool, rows: int) -> Any:
    """Read and check the table of a split; raises CacheCorruptError."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise CacheCorruptError(f"{path}: not a readable Arrow file ({error}).") from None
    if not table.schema.equals(schema(regression)):
        raise CacheCorruptError(f"{path}: unexpected columns: {table.schema.to_string()}.")
    if table.num_rows != rows:
        raise CacheCorruptError(f"{path}: {table.num_rows} rows, the manifest says {rows}.")
    return table


def describe(table: Any) -> Split:
    """Counts, lengths and digest of a split's table."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = np.asarray(pc.list_value_length(table["input_ids"]))
    return Split(
        rows=table.num_rows,
        tokens=int(lengths.sum()),
        labelled_rows=table.num_rows - table["label"].null_count,
        length_histogram=_histogram(lengths.tolist()),
        digest=_digest(table),
    )


def _histogram(lengths: list[int]) -> dict[str, int]:
    counts: dict[int, int] = {}
    for length in lengths:
        upper = 1 << max(length - 1, 0).bit_length()
        counts[upper] = counts.get(upper, 0) + 1
    return {str(upper): counts[upper] for upper in sorted(counts)}


def _digest(table: Any) -> str:
    digest = hashlib.sha256()
    for name in ("example_id", "row_digest", "label"):
        for value in table[name].to_pylist():
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
            digest.update(b"\n")
    return digest.hexdigest()
