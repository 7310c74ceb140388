"""Reader of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.raw import Raw, Wanted
from pipeline.errors import DataError

# of pyarrow, where a file as a whole is broken; the last one of names of columns
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


def read_parquet(path: Path, wanted: Wanted) -> Raw:
    """Read the wanted columns of a Parquet file.

    Raises:
        DataError: unreadable, a column is missing, or a text is not UTF-8.
    """
    try:
        with pq.ParquetFile(path) as file:
            chosen = wanted.find(file.schema_arrow.names, str(path))
            table = file.read(columns=list(chosen.values()))
    except UNREADABLE as error:
        raise DataError(f"{path}: not readable as Parquet ({error}).") from None
    return from_arrow(table, chosen, str(path))


def from_arrow(table: Any, chosen: dict[str, str], file: str) -> Raw:
    """Columns of a `pyarrow.Table` as raw rows, counted from 1.

    Raises:
        DataError: a text is not UTF-8; names the row and the column.
    """
    columns = {ours: values_of(table[name]) for ours, name in chosen.items()}
    raw = Raw(file, columns, range(1, table.num_rows + 1), unit="row")
    for ours, name in chosen.items():
        for row, value in enumerate(columns[ours]):
            if isinstance(value, UnicodeDecodeError):
                raise DataError(f"{raw.place(row)}: {not_utf8_in(name, value)}")
    return raw


def values_of(column: Any) -> list[Any]:
    """Values of an Arrow column; a UnicodeDecodeError stands for a text that is not UTF-8.

    Parquet calls a column text without a look at its bytes, and so does Arrow.
    """
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_value_of(each) for each in column]


def _value_of(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error


def not_utf8_in(column: str, error: UnicodeDecodeError) -> str:
    """Say which byte of a text is not UTF-8."""
    return (
        f"`{column}`: not UTF-8 (byte 0x{error.object[error.start]:02x} at offset "
        f"{error.start:,} of the text). Write the column as UTF-8."
    )
