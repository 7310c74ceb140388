"""pytest tests/stages/test_progress.py."""

from __future__ import annotations

import io

import pytest

from stages.progress import progress


class Clock:
    """A clock that is moved by hand."""

    now = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of progress lines."""
    clock = Clock()
    monkeypatch.setattr("stages.progress.time", clock)
    return clock


def test_plain_lines_now_and_then_with_rates_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress() as tick:
        for done in (10, 20, 30, 40):  # a run resumed at row 10 of 40
            tick("rows", done, 40, rows=done, loss=0.5)
            clock.now += 10.0
    assert capsys.readouterr().err.splitlines() == [
        "rows: 20/40, 1 rows/s, loss 0.5, 20 s left",
        "rows: 30/40, 1 rows/s, loss 0.5, 10 s left",
        "rows: 40/40, 1 rows/s, loss 0.5",
    ]


def test_quick_work_is_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as tick:
        for done in range(1, 101):
            clock.now += 0.01
            tick("steps", done, 100)
    assert capsys.readouterr().err == "steps: 100/100\n"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    import rich.console

    screen = io.StringIO()
    terminal = rich.console.Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda **_: terminal)
    with progress() as tick:
        tick("reading", 1, 3, tokens=10)
        tick("reading", 3, 3, tokens=30, loss=0.25)
        tick("writing", 1, 1)
    shown = screen.getvalue()
    assert "reading" in shown
    assert "3/3" in shown
    assert "loss 0.25" in shown
    assert "writing" in shown
