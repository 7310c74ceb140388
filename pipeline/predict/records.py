"""Lines, TSV and CSV records one by one; a broken one is told and does not end the reading."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.data.lines import BYTE_ORDER_MARK, not_utf8, without_end

LINE_BYTES = 1 << 26  # a longer line is no row
RECORD_LINES = 1000  # a quoted text that goes on for longer was never closed
RECORD_CHARACTERS = 1 << 26


@dataclass(frozen=True)
class Line:
    """One line of a text file."""

    number: int
    """From 1."""
    text: str
    """With its end; where there is a problem, what could be made of it."""
    problem: str | None = None
    """Why it cannot be read."""


@dataclass(frozen=True)
class Record:
    """The cells of one row."""

    number: int
    """Of its first line."""
    cells: list[str]
    problem: str | None = None


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Each line of a file; bytes that are not UTF-8 and endless lines are a problem of the line."""
    offset, number = 0, 0
    while raw := file.readline(LINE_BYTES):
        number += 1
        if len(raw) == LINE_BYTES and not raw.endswith(b"\n"):
            offset += len(raw) + _skip_line(file)
            yield Line(number, "", f"longer than {LINE_BYTES >> 20} MiB.")
            continue
        line = _decoded(number, raw, offset)
        offset += len(raw)
        yield line


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of the line; how many bytes that were."""
    skipped = 0
    while raw := file.readline(LINE_BYTES):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


def _decoded(number: int, raw: bytes, offset: int) -> Line:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = not_utf8("", error, offset).removeprefix(": ")
        return Line(number, raw.decode("utf-8", "replace"), problem)
    return Line(number, text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text)


def tsv_records(lines: Iterator[Line]) -> Iterator[Record]:
    """Cells between tabs; quotes are ordinary characters."""
    for line in lines:
        yield Record(line.number, without_end(line.text).split("\t"), line.problem)


def csv_records(lines: Iterator[Line]) -> Iterator[Record]:
    """Cells as RFC 4180 quotes them.

    Where quotes do not match, one line is the broken row and reading goes on with the next one: a
    quote that is never closed must not swallow the rest of the file.
    """
    feed = _Feed(lines)
    reader = csv.reader(feed, strict=True)
    while True:
        try:
            cells = _next_cells(reader)
        except (csv.Error, _UnclosedError) as error:
            first = feed.give_back()
            yield Record(first.number, [], first.problem or f"not valid CSV ({error}).")
            reader = csv.reader(feed, strict=True)
            continue
        if cells is None:
            return
        taken = feed.take()
        problem = next((line.problem for line in taken if line.problem), None)
        yield Record(taken[0].number, cells or [""], problem)


def _next_cells(reader: Any) -> list[str] | None:
    """The next record; None at the end. The module's limit refuses texts beyond 128 KiB."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


class _UnclosedError(Exception):
    """A record that does not end."""


class _Feed:
    """The lines for a `csv.reader`, which can be given back where they made no record."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._returned: deque[Line] = deque()
        self._taken: list[Line] = []
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._taken) >= RECORD_LINES or self._characters > RECORD_CHARACTERS:
            raise _UnclosedError("a quote that is not closed")
        line = self._returned.popleft() if self._returned else next(self._lines)
        self._taken.append(line)
        self._characters += len(line.text)
        return line.text

    def take(self) -> list[Line]:
        """The lines of the record that was just read."""
        taken, self._taken, self._characters = self._taken, [], 0
        return taken

    def give_back(self) -> Line:
        """Return all lines of the current record but the first, which is the result."""
        first, *rest = self.take()
        self._returned.extendleft(reversed(rest))
        return first
