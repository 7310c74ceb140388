"""Readers of text files: tsv without quoting (as GLUE), csv with RFC 4180 quoting, jsonl."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.raw import Raw, Wanted
from pipeline.errors import DataError

BYTE_ORDER_MARK = "\ufeff"
TSV_HINT = " A tab or line break cannot stand inside a text in .tsv; use .csv or .jsonl for those."
CSV_HINT = " A text with a comma or line break must be quoted."

Row = tuple[int, list[str]]  # number of its first line, cells


def decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line, its end included, a byte order mark not.

    Raises:
        DataError: a line is not UTF-8; names it and the byte offset.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(not_utf8(f"{path}, line {number}", error, offset)) from None
            offset += len(line)
            yield number, text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def not_utf8(place: str, error: UnicodeDecodeError, offset: int) -> str:
    """Say which byte of a file is not UTF-8; `offset` is that of its line."""
    return (
        f"{place}: not UTF-8 (byte 0x{error.object[error.start]:02x} at offset "
        f"{offset + error.start:,} of the file). Save the file as UTF-8."
    )


def read_tsv(
    path: Path, wanted: Wanted, *, header: Sequence[str] | None = None, skip_short: bool = False
) -> Raw:
    """Read tab-separated lines; quotes are ordinary characters.

    Args:
        path: the file.
        wanted: the columns to keep.
        header: the columns of a file whose first line is a row already.
        skip_short: leave out, and count, rows with too few cells.

    Raises:
        DataError: not UTF-8, empty, a column missing, or a row with another number of cells.
    """
    rows = ((number, without_end(text).split("\t")) for number, text in decoded_lines(path))
    return _collect(path, rows, wanted, header=header, skip_short=skip_short, hint=TSV_HINT)


def read_csv(path: Path, wanted: Wanted) -> Raw:
    """Read comma-separated rows; a quoted text may hold commas, doubled quotes and line breaks.

    Raises:
        DataError: as `read_tsv`, or quotes that do not match.
    """
    return _collect(path, _csv_rows(path), wanted, hint=CSV_HINT)


def read_jsonl(path: Path, wanted: Wanted) -> Raw:
    """Read one JSON object per line.

    Raises:
        DataError: not UTF-8, not JSON, not an object, or an object without a wanted key.
    """
    columns: dict[str, list[Any]] = {ours: [] for ours in wanted.names}
    numbers = []
    for number, text in decoded_lines(path):
        if not text.strip():
            continue
        row = json_object(text, f"{path}, line {number}")
        chosen = wanted.find(list(row), f"{path}, line {number}")
        for ours, values in columns.items():
            values.append(row[chosen[ours]] if ours in chosen else None)
        numbers.append(number)
    return Raw(str(path), columns, numbers)


def without_end(line: str) -> str:
    """A line without its line break."""
    return line.removesuffix("\n").removesuffix("\r")


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader((text for _, text in decoded_lines(path)), strict=True)
    limit = csv.field_size_limit(sys.maxsize)  # the default refuses texts beyond 128 KiB
    start = 1
    try:
        for cells in reader:
            yield start, cells or [""]
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: not valid CSV ({error}).") from None
    finally:
        csv.field_size_limit(limit)


def _collect(
    path: Path,
    rows: Iterator[Row],
    wanted: Wanted,
    *,
    header: Sequence[str] | None = None,
    skip_short: bool = False,
    hint: str,
) -> Raw:
    """Keep the wanted cells of each row as columns."""
    names = header or next(rows, (1, [""]))[1]
    if list(names) == [""]:
        raise DataError(f"{path}: expected a line of column names first, found nothing.")
    places = {o: list(names).index(name) for o, name in wanted.find(names, str(path)).items()}
    columns: dict[str, list[Any]] = {ours: [] for ours in places}
    numbers: list[int] = []
    skipped = 0
    for number, cells in _without_blanks(rows, len(names)):
        if skip_short and len(cells) < len(names):
            skipped += 1
            continue
        if len(cells) != len(names):
            raise DataError(f"{path}, line {number}: {ragged(names, len(cells))}{hint}")
        for ours, place in places.items():
            columns[ours].append(cells[place])
        numbers.append(number)
    return Raw(str(path), columns, numbers, skipped=skipped)


def ragged(names: Sequence[str], found: int) -> str:
    """Say that a row has another number of cells than the line of column names."""
    return f"expected {len(names)} columns ({', '.join(names)}), found {found}."


def _without_blanks(rows: Iterable[Row], width: int) -> Iterator[Row]:
    """Leave out empty lines, but where there is one column: there they are an empty text."""
    return (row for row in rows if width == 1 or row[1] != [""])


def json_object(text: str, place: str) -> dict[str, Any]:
    """Parse one line of a .jsonl file; raises DataError that names `place`."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}).") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object, found {text.strip()[:60]}.")
    return row
