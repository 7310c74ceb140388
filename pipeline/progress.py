"""How long work tells of its progress without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Tick(Protocol):
    """Called now and then by long work."""

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        """Report progress.

        Args:
            what: the work's name; a new name is a new bar.
            done: steps or rows finished.
            total: of so many; `done == total` ends the bar; 0 = not known yet.
            figures: values to show: `rows` and `tokens` are cumulative counts and shown as rates,
                others as they are.
        """


def silent(what: str, done: int, total: int, **figures: float) -> None:
    """A Tick for whoever wants no report."""
