"""The parts that a page is made of: what both templates know how to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One panel."""

    slug: str
    label: str
    """What it shows, for those who do not see it."""
    svg: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table; the first cell names it."""

    cells: tuple[str, ...]
    is_teacher: bool = False
    starts_depth: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text."""

    columns: tuple[str, ...]
    """Empty = a plain list of names and values."""
    rows: tuple[Row, ...]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Quote:
    """Texts of one row of data, and what is to be said of them."""

    texts: tuple[str, ...]
    said: str


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Something long under one line, closed at first; on paper, quotes are open."""

    summary: str
    quotes: tuple[Quote, ...] = ()
    code: str = ""
    """Left out of the Markdown edition."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One heading of a task and what stands under it."""

    heading: str
    slug: str
    """Anchor, unique on the page."""
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folds: tuple[Fold, ...] = ()
    notes: tuple[str, ...] = ()
    """What is left out, and why."""
    beside: bool = False
    """Table and picture side by side where there is room."""


def plain_table(lines: Sequence[tuple[str, str]]) -> Table:
    """Names and values, without headings."""
    return Table(columns=(), rows=tuple(Row(cells=line) for line in lines))
