"""A sweep as it goes: a live table on a terminal, else a line for every student that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stages.cli import note
from stages.progress import live_console

SHOWN = 15  # students in the table

OnChange = Callable[[list[Any]], None]


@contextmanager
def sweep_table(name: str, columns: Sequence[str]) -> Iterator[OnChange]:
    """Yield what is to be told of all trials whenever one changes."""
    from rich.live import Live

    console = live_console()
    if console is None:
        yield _Lines()
        return
    with Live(console=console, refresh_per_second=2) as live:
        yield lambda trials: live.update(_table(name, columns, trials))


class _Lines:
    def __init__(self) -> None:
        self._told: set[int] = set()

    def __call__(self, trials: list[Any]) -> None:
        done = [each for each in trials if each.state in ("complete", "fail")]
        for each in done:
            if each.number not in self._told:
                self._told.add(each.number)
                outcome = f"{each.score:.4f}" if each.score is not None else f"failed: {each.error}"
                note(f"  {len(self._told)}/{len(trials)} {each.folder}: {outcome}")


def _table(name: str, columns: Sequence[str], trials: list[Any]) -> Any:
    from rich.table import Table

    done = sum(each.state in ("complete", "fail") for each in trials)
    table = Table(title=f"{name}: {done} of {len(trials)} done")
    for column in (*columns, "score", "state"):
        table.add_column(column)
    order = {"running": 0, "complete": 1, "fail": 2, "waiting": 3}
    ranked = sorted(trials, key=lambda each: (order[each.state], -(each.score or 0), each.number))
    for each in ranked[:SHOWN]:
        score = "" if each.score is None else f"{each.score:.4f}"
        table.add_row(*(str(each.point.get(column, "")) for column in columns), score, each.state)
    return table
