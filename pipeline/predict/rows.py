"""The rows of csv, tsv, jsonl and parquet files, read one after the other and checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.data.lines import CSV_HINT, TSV_HINT, json_object, ragged
from pipeline.data.parquet import UNREADABLE, not_utf8_in, values_of
from pipeline.data.raw import Wanted
from pipeline.data.table import text_problem
from pipeline.errors import DataError
from pipeline.predict.records import Record, csv_records, read_lines, tsv_records

FORMATS = ("csv", "tsv", "jsonl", "parquet")
PARQUET_ROWS = 1024  # decoded at a time
PARQUET_BUFFER_BYTES = 1 << 20  # without it, and with pre_buffer, whole row groups are read at once
LONGEST_PROBLEM = 400  # characters


@dataclass(frozen=True)
class Row:
    """One input."""

    index: int
    """Its place among all rows of the input, from 0; broken ones count."""
    texts: tuple[str, ...]
    kept: tuple[Any, ...]
    """Values of the columns that go into the output."""

    @property
    def characters(self) -> int:
        """Of all texts that it holds."""
        values = (*self.texts, *self.kept)
        return sum(len(value) for value in values if isinstance(value, str))


@dataclass(frozen=True)
class Bad:
    """A row that cannot be read."""

    message: str
    """Where, what was expected and what was found."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What to read of each row."""

    texts: tuple[tuple[str, ...], ...]
    """For each text its possible names; the first one found is read."""
    kept: tuple[str, ...] = ()
    """Columns that go into the output as they are."""
    header: tuple[str, ...] = ()
    """Columns of a .tsv file whose first line is a row already: CoLA's own files."""
    may_be_empty: bool = False
    """Whether an empty text is one: published data has a few."""

    def wanted(self, *, kept_optional: bool = False) -> Wanted:
        """Text columns, then kept ones."""
        names = {f"text {place}": each for place, each in enumerate(self.texts)}
        kept = {f"kept {place}": (name,) for place, name in enumerate(self.kept)}
        return Wanted(names | kept, frozenset(kept if kept_optional else ()))


Values = tuple[int, list[Any] | str]  # number of the line or row; wanted values, or a problem


def read_rows(file: BinaryIO, name: str, kind: str, columns: Columns) -> Iterator[Row | Bad]:
    """Read a file row by row, in memory of one row (of `PARQUET_ROWS` for Parquet).

    Args:
        file: open at its beginning; seekable for Parquet.
        name: of the file in messages.
        kind: one of `FORMATS`.
        columns: what to read.

    Raises:
        DataError: the file as a whole cannot be read: no line of column names, a column missing,
            not Parquet. Broken rows do not raise.
    """
    unit = "row" if kind == "parquet" else "line"
    for index, (number, values) in enumerate(_values(file, name, kind, columns)):
        place = f"{name}, {unit} {number}"
        if isinstance(values, str):
            yield Bad(f"{place}: {_short(values)}")
            continue
        texts = tuple(values[: len(columns.texts)])
        if problem := _text_problem(texts, columns):
            yield Bad(f"{place}: {_short(problem)}")
        else:
            yield Row(index, texts, tuple(values[len(columns.texts) :]))


def kept_types(file: BinaryIO, name: str, kind: str, columns: Columns) -> list[Any]:
    """`pyarrow.DataType` of each kept column: its own in Parquet, else text."""
    import pyarrow as pa

    if kind != "parquet":
        return [pa.string()] * len(columns.kept)
    schema = _open_parquet(file, name).schema_arrow
    columns.wanted().find(schema.names, name)
    return [schema.field(column).type for column in columns.kept]


def _values(file: BinaryIO, name: str, kind: str, columns: Columns) -> Iterator[Values]:
    if kind == "parquet":
        return _parquet_values(file, name, columns)
    if kind == "jsonl":
        return _json_values(file, columns)
    if kind == "csv":
        return _cell_values(csv_records(read_lines(file)), name, columns, CSV_HINT)
    records = tsv_records(read_lines(file))
    if columns.header:
        records = _with_header(records, columns)
    return _cell_values(records, name, columns, TSV_HINT)


def _with_header(records: Iterator[Record], columns: Columns) -> Iterator[Record]:
    """Name the columns of a file that does not, as CoLA's train and dev files."""
    first = next(records, None)
    if first is None:
        return
    names = {name for candidates in columns.texts for name in candidates}
    if not names & set(first.cells) and len(first.cells) == len(columns.header):
        yield Record(0, list(columns.header))
    yield from itertools.chain([first], records)


def _cell_values(
    records: Iterator[Record], name: str, columns: Columns, hint: str
) -> Iterator[Values]:
    header = next(records, Record(1, [""]))
    if header.problem:
        raise DataError(f"{name}, line {header.number}: {header.problem}")
    names = header.cells
    if names == [""]:
        raise DataError(f"{name}: expected a line of column names first, found nothing.")
    places = [names.index(each) for each in columns.wanted().find(names, name).values()]
    for record in records:
        if record.problem:
            yield record.number, record.problem
        elif record.cells == [""] and len(names) > 1:
            continue  # a blank line
        elif len(record.cells) != len(names):
            yield record.number, ragged(names, len(record.cells)) + hint
        else:
            yield record.number, [record.cells[place] for place in places]


def _json_values(file: BinaryIO, columns: Columns) -> Iterator[Values]:
    wanted = columns.wanted(kept_optional=True)
    for line in read_lines(file):
        if line.problem:
            yield line.number, line.problem
        elif line.text.strip():
            yield line.number, _of_object(line.text, wanted)


def _of_object(text: str, wanted: Wanted) -> list[Any] | str:
    try:
        row = json_object(text, "")
        chosen = wanted.find(list(row), "")
    except DataError as error:
        return str(error).removeprefix(": ")
    return [row[chosen[ours]] if ours in chosen else None for ours in wanted.names]


def _parquet_values(file: BinaryIO, name: str, columns: Columns) -> Iterator[Values]:
    opened = _open_parquet(file, name)
    chosen = columns.wanted().find(opened.schema_arrow.names, name)
    number = 0
    try:
        for batch in opened.iter_batches(PARQUET_ROWS, columns=list(set(chosen.values()))):
            lists = [values_of(batch.column(each)) for each in chosen.values()]
            for values in zip(*lists, strict=True):
                number += 1
                yield number, _undecoded(values, chosen.values()) or list(values)
    except UNREADABLE as error:
        raise DataError(f"{name}: not readable as Parquet ({error}).") from None


def _undecoded(values: Iterable[Any], names: Iterable[str]) -> str | None:
    """Say which of a row's texts is not UTF-8; None when all are."""
    for value, name in zip(values, names, strict=True):
        if isinstance(value, UnicodeDecodeError):
            return not_utf8_in(name, value)
    return None


def _open_parquet(file: BinaryIO, name: str) -> Any:
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
        _ = opened.schema_arrow  # names of columns are decoded here
    except UNREADABLE as error:
        raise DataError(f"{name}: not readable as Parquet ({error}).") from None
    return opened


def _text_problem(texts: Sequence[Any], columns: Columns) -> str | None:
    for text, candidates in zip(texts, columns.texts, strict=True):
        if problem := text_problem(text, may_be_empty=columns.may_be_empty):
            return f"`{candidates[0]}`: {problem}"
    return None


def _short(problem: str) -> str:
    return problem if len(problem) <= LONGEST_PROBLEM else f"{problem[:LONGEST_PROBLEM]} ..."
