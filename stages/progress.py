"""How far a command has come, on standard error: bars on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stages.cli import is_quiet, note

SECONDS_BETWEEN_LINES = 10.0  # when standard error is not a terminal


def live_console() -> Any | None:
    """A `rich` console on standard error; None where lines are wanted, or nothing."""
    import rich.console

    console = rich.console.Console(stderr=True)
    return console if console.is_terminal and not is_quiet() else None


@contextmanager
def progress() -> Iterator[Any]:
    """Yield a `pipeline.progress.Tick`: rich bars on a terminal, else a plain line now and then."""
    import rich.progress as bars

    console = live_console()
    if console is None:
        yield _PlainLines()
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[figures]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console) as live:
        yield _Bars(live)


def step_ticks(tick: Any, what: str) -> Callable[[Any], None]:
    """Turn a training loop's step logs into ticks of one bar."""

    def on_step(entry: Any) -> None:
        tick(
            what,
            entry.step,
            entry.steps,
            rows=entry.rows,
            tokens=entry.tokens,
            loss=entry.losses["total"],
            epoch=entry.epoch,
        )

    return on_step


class _Rates:
    """Turns cumulative counts into rates since each work's first tick."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, dict[str, float]]] = {}

    def text(self, what: str, figures: Mapping[str, float]) -> str:
        now = time.monotonic()
        start, counts = self._first.setdefault(what, (now, dict(figures)))
        seconds = max(now - start, 1e-9)
        parts = []
        for name, value in figures.items():
            if name in ("rows", "tokens"):
                if now > start:
                    parts.append(f"{(value - counts[name]) / seconds:,.0f} {name}/s")
            else:
                parts.append(f"{name} {value:.4g}")
        return ", ".join(parts)


class _PlainLines:
    def __init__(self) -> None:
        self._rates = _Rates()
        self._last: dict[str, float] = {}
        self._start: dict[str, tuple[float, int]] = {}

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        now = time.monotonic()
        start, before = self._start.setdefault(what, (now, done))
        text = self._rates.text(what, figures)
        going_on = done < total or not total
        if going_on and now - self._last.get(what, start) < SECONDS_BETWEEN_LINES:
            return
        self._last[what] = now
        eta = (now - start) / (done - before) * (total - done) if done > before else 0.0
        left = f", {eta:.0f} s left" if done < total and eta >= 1 else ""
        of_all = f"/{total:,}" if total else ""
        note(f"{what}: {done:,}{of_all}{', ' if text else ''}{text}{left}")


class _Bars:
    def __init__(self, live: Any) -> None:
        self._live = live
        self._rates = _Rates()
        self._ids: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        text = self._rates.text(what, figures)
        if what not in self._ids:
            self._ids[what] = self._live.add_task(what, total=total or None, figures=text)
        self._live.update(self._ids[what], completed=done, total=total or None, figures=text)
