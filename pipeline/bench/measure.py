"""Timing contenders, in turns, for every batch size and length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.bench.contenders import Contender
from pipeline.progress import Tick, silent
from pipeline.timing import Rounds, seconds_of, take_turns

WARM_UP = 3  # calls before the first timed one
LEAST_CALLS, MOST_CALLS = 10, 200


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One contender's calls with one shape of batch."""

    name: str
    batch_size: int
    length: int
    """Tokens of every row."""
    p50_ms: float
    """Median of a call, in milliseconds."""
    p95_ms: float
    rows_per_second: float
    """Over all calls."""
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure(
    contenders: Sequence[Contender],
    batch_sizes: Sequence[int],
    lengths: Sequence[int],
    seconds: float,
    tick: Tick = silent,
) -> list[Timing]:
    """Time every contender with every batch size and length.

    For each shape, all contenders are warmed up, and then take turns: A B C A B C.

    Args:
        contenders: in the order of their turns.
        batch_sizes: rows of a call.
        lengths: tokens of a row.
        seconds: for each contender and shape; at least `LEAST_CALLS` calls, at most `MOST_CALLS`.
        tick: told of finished rounds.
    """
    rounds = Rounds(least=LEAST_CALLS, most=MOST_CALLS, seconds=seconds * len(contenders))
    timings = []
    for length in lengths:
        for batch_size in batch_sizes:
            works = {}
            for each in contenders:
                call = partial(seconds_of, each.work(batch_size, length), each.device)
                for _ in range(WARM_UP):
                    call()
                works[each.name] = call
            what = f"batch {batch_size} x {length} tokens"
            timed = take_turns(works, rounds, what, tick)
            timings += [summary(name, batch_size, length, timed[name]) for name in timed]
    return timings


def summary(name: str, batch_size: int, length: int, seconds: Sequence[float]) -> Timing:
    """Percentiles and throughput of the calls of one contender and shape."""
    p50, p95 = np.percentile(seconds, [50, 95])
    return Timing(
        name=name,
        batch_size=batch_size,
        length=length,
        p50_ms=1000 * float(p50),
        p95_ms=1000 * float(p95),
        rows_per_second=batch_size * len(seconds) / sum(seconds),
        calls=len(seconds),
    )
