"""pytest tests/pipeline/test_timing.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from pipeline.timing import Rounds, seconds_of, take_turns


def test_works_take_turns_and_their_times_are_kept_apart() -> None:
    calls: list[str] = []

    def work(name: str) -> Callable[[], float]:
        def once() -> float:
            calls.append(name)
            return float(len(calls))

        return once

    ticks: list[tuple[int, int]] = []
    timed = take_turns(
        {name: work(name) for name in "ABC"},
        Rounds(least=2, most=2, seconds=0),
        "speed",
        lambda what, done, total, **_: ticks.append((done, total)),
    )
    assert "".join(calls) == "ABCABC"
    assert timed == {"A": [1.0, 4.0], "B": [2.0, 5.0], "C": [3.0, 6.0]}
    assert ticks == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("done", "spent", "enough"),
    [(1, 99.0, False), (3, 0.5, False), (3, 1.5, True), (7, 0.0, True)],
)
def test_when_rounds_are_enough(done: int, spent: float, enough: bool) -> None:
    assert Rounds(least=2, most=7, seconds=1.0).enough(done, spent) is enough


def test_seconds_of_a_call() -> None:
    inside: list[bool] = []

    def work() -> None:
        inside.append(torch.is_inference_mode_enabled())
        time.sleep(0.02)

    assert 0.02 <= seconds_of(work, torch.device("cpu")) < 2
    assert inside == [True]
