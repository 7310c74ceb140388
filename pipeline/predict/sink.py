"""Writing predictions window by window; a file gets its name at the end, or never."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from pipeline.errors import DataError, OutputExistsError
from pipeline.files import atomic_file
from pipeline.predict.layout import Column

ROW_GROUP_BYTES = 1 << 22  # in memory


class Writer(Protocol):
    """Takes the columns of one window after the other."""

    def __call__(self, columns: Sequence[Column]) -> None:
        """Write them."""


def check_output(out: Path, overwrite: bool, source: Path | None) -> Path:
    """Where to write; raises before any work what would be an error after it.

    Raises:
        OutputExistsError: something is there, and `overwrite` is off or it is no regular file.
        DataError: the output is the input.
    """
    path = out.expanduser().resolve()
    if source is not None and path.exists() and path.samefile(source):
        raise DataError(f"{out}: is the input; choose another --out.")
    if path.exists() and not path.is_file():
        raise OutputExistsError(
            f"{out}: is there and is no regular file; choose another name, or leave --out out and "
            "redirect standard output."
        )
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{out}: is there already; add --overwrite to replace it, or choose another name."
        )
    return path


@contextmanager
def open_file(
    path: Path, kind: str, names: Sequence[str], types: Sequence[Any]
) -> Iterator[Writer]:
    """A writer of a file that is published when all went well."""
    with atomic_file(path) as file:
        if kind == "parquet":
            with _parquet_writer(file, names, types) as writer:
                yield writer
        else:
            yield text_writer(file, kind, names)


def text_writer(file: BinaryIO, kind: str, names: Sequence[str]) -> Writer:
    """A writer of csv, tsv (both with a line of column names) or jsonl."""
    if kind == "jsonl":
        return _JsonLines(file, names)
    return _Csv(file, names) if kind == "csv" else _Tsv(file, names)


class _JsonLines:
    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        self._file, self._names = file, names

    def __call__(self, columns: Sequence[Column]) -> None:
        values = [_short_numbers(column) for column in columns]
        rows = (dict(zip(self._names, row, strict=True)) for row in zip(*values, strict=True))
        lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        _write(self._file, "".join(lines))


class _Csv:
    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        self._file = file
        self._rows([names])

    def __call__(self, columns: Sequence[Column]) -> None:
        self._rows(zip(*(_cells(column) for column in columns), strict=True))

    def _rows(self, rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        _write(self._file, text.getvalue())


class _Tsv:
    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        self._file, self._names = file, names
        self._rows([names])

    def __call__(self, columns: Sequence[Column]) -> None:
        self._rows(zip(*(_cells(column) for column in columns), strict=True))

    def _rows(self, rows: Any) -> None:
        for row in rows:
            for name, cell in zip(self._names, row, strict=True):
                if any(mark in cell for mark in "\t\r\n"):
                    raise DataError(
                        f"column `{name}`, row {row[0]}: a tab or line break cannot stand inside "
                        "a .tsv file; write .csv, .jsonl or .parquet."
                    )
            _write(self._file, "\t".join(row) + "\n")


@contextmanager
def _parquet_writer(file: BinaryIO, names: Sequence[str], types: Sequence[Any]) -> Iterator[Writer]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(zip(names, types, strict=True)))
    waiting: list[Any] = []

    def flush() -> None:
        if waiting:
            table = pa.Table.from_batches(waiting)
            writer.write_table(table, row_group_size=table.num_rows)
            waiting.clear()

    def write(columns: Sequence[Column]) -> None:
        arrays = [
            pa.array(_texts(column) if each.type == pa.string() else column, each.type)
            for each, column in zip(schema, columns, strict=True)
        ]
        waiting.append(pa.record_batch(arrays, schema=schema))
        if sum(batch.nbytes for batch in waiting) >= ROW_GROUP_BYTES:
            flush()

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield write
        flush()


def _write(file: BinaryIO, text: str) -> None:
    # JSON can spell half of a surrogate pair, which is no UTF-8; in JSON this is its own spelling
    file.write(text.encode("utf-8", "backslashreplace"))


def _short_numbers(column: Column) -> Column:
    """float32 as the shortest decimal that reads back as the same float32."""
    if isinstance(column, np.ndarray):
        return [float(str(value)) for value in column]
    return column


def _cells(column: Column) -> list[str]:
    """Values as text: nothing for null, JSON for what is neither text nor a number."""
    if isinstance(column, np.ndarray):
        return [str(value) for value in column]
    return [_cell(value) for value in column]


def _texts(column: Column) -> list[str | None]:
    """Values as text for Parquet, which has a null of its own."""
    cells = (None if value is None else _cell(value) for value in column)
    return [cell and cell.encode("utf-8", "backslashreplace").decode() for cell in cells]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)
