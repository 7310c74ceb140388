"""Rows of one file as they stand, before a task gives them meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a file, whatever else it has."""

    names: Mapping[str, tuple[str, ...]]
    """Our name of a column -> its possible names in the file; the first one found is read."""
    optional: frozenset[str] = frozenset()
    """Our names of columns that may be absent."""

    def find(self, found: Sequence[str], place: str) -> dict[str, str]:
        """Our name -> name in the file, without optional columns that are absent.

        Raises:
            DataError: a column is missing, or there twice; lists the columns found.
        """
        chosen = {}
        for ours, candidates in self.names.items():
            name = next((each for each in candidates if each in found), None)
            if name is not None:
                chosen[ours] = name
            elif ours not in self.optional:
                raise DataError(_missing(candidates, found, place))
        for name in chosen.values():
            if list(found).count(name) > 1:
                raise DataError(f"{place}: column `{name}` is there twice.")
        return chosen


def _missing(candidates: tuple[str, ...], found: Sequence[str], place: str) -> str:
    wanted = " or ".join(f"`{name}`" for name in candidates)
    hint = did_you_mean(candidates[0], found)
    if len(found) == 1 and any(separator in found[0] for separator in "\t,;|"):
        hint = " The line was not split: .csv is separated by commas, .tsv by tabs."
    return f"{place}: no column {wanted}.{hint} Columns found: {', '.join(found) or 'none'}."


@dataclass(frozen=True)
class Raw:
    """Columns of untyped values, and where each row came from."""

    file: str
    """As named in messages."""
    columns: Mapping[str, Sequence[Any]]
    """Our names; a column that is optional and absent has no key."""
    numbers: Sequence[int]
    """Line (or row) number of each row in the file, from 1."""
    unit: str = "line"
    """What `numbers` count: "line" of a text file, or "row"."""
    skipped: int = 0
    """Broken rows that were left out, where the reader was told to."""

    def place(self, row: int) -> str:
        """Where a row came from, as messages name it."""
        return f"{self.file}, {self.unit} {self.numbers[row]}"

    def __len__(self) -> int:
        return len(self.numbers)
