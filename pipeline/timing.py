"""Timing things side by side: they take turns, so that what slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from pipeline.progress import Tick, silent

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """When enough rounds were timed."""

    least: int
    most: int
    seconds: float
    """Wall time after which rounds stop, once there are `least`."""

    @classmethod
    def exactly(cls, count: int) -> Rounds:
        """So many, however long they take."""
        return cls(least=count, most=count, seconds=0.0)

    def enough(self, done: int, spent: float) -> bool:
        """Whether `done` rounds that took `spent` seconds together are enough."""
        return done >= self.most or (done >= self.least and spent > self.seconds)


def take_turns(
    works: Mapping[Name, Callable[[], float]], rounds: Rounds, what: str, tick: Tick = silent
) -> dict[Name, list[float]]:
    """Run every work once a round, in the same order: A B C A B C.

    Args:
        works: name to what does the work once and returns its seconds; warmed up by the caller.
        rounds: how many.
        what: the name of this measurement, for `tick`.
        tick: told of finished rounds.

    Returns:
        Seconds of every work, one entry per round.
    """
    timed: dict[Name, list[float]] = {name: [] for name in works}
    start = time.perf_counter()
    for done in range(1, rounds.most + 1):
        for name, work in works.items():
            timed[name].append(work())
        ended = rounds.enough(done, time.perf_counter() - start)
        tick(what, done, done if ended else rounds.most)
        if ended:
            break
    return timed


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with everything that it set off on the device."""
    with torch.inference_mode():
        _synchronize(device)
        start = time.perf_counter()
        work()
        _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
