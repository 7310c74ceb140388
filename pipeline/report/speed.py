"""Measured inference speed: models side by side, interleaved, the fastest of several rounds.

The fastest round is the one that other work on the machine disturbed least: on a busy machine a
median measures the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipeline.batches import Rows, batches_of, spread_rows
from pipeline.progress import Tick, silent
from pipeline.timing import Rounds, seconds_of, take_turns

BATCH_SIZE = 32
SINGLE_ROWS = 16  # rows that are also run one by one
MIN_ROUNDS, MAX_ROUNDS = 3, 25
SECONDS_PER_MODEL = 3.0  # rounds stop here, after the least number of them

Name = TypeVar("Name", bound=Hashable)
Batches = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is timed."""

    model: Any
    """A loaded classifier in eval mode."""
    rows: Rows
    """Validation rows as tokens that it can read."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one model on one device, float32."""

    rows_per_second: float
    """In batches of `BATCH_SIZE`."""
    milliseconds_per_row: float
    """One row at a time."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One pass over the chosen rows."""

    batches: Mapping[int, Batches]
    """By batch size."""
    rows: Mapping[int, int]
    """How many, by batch size."""


def measure(
    subjects: Mapping[Name, Subject], wanted: int, device: torch.device, tick: Tick = silent
) -> dict[Name, Speed]:
    """Time every model on rows of similar length: those that share `rows`, on the same.

    Each model is first run once, untimed. Then the models take turns, so that a machine that slows
    down slows all of them.

    Args:
        subjects: by name.
        wanted: how many of each one's rows, evenly spaced.
        device: where to run.
        tick: told of finished rounds.
    """
    distinct = {id(each.rows): each.rows for each in subjects.values()}
    works = {key: _work_of(rows, wanted, device) for key, rows in distinct.items()}
    work_of = {name: works[id(each.rows)] for name, each in subjects.items()}
    models = {name: each.model for name, each in subjects.items()}
    timed = _rounds(models, work_of, device, tick)
    return {
        name: Speed(
            rows_per_second=work.rows[BATCH_SIZE] / min(timed[name, BATCH_SIZE]),
            milliseconds_per_row=1000 * min(timed[name, 1]) / work.rows[1],
        )
        for name, work in work_of.items()
    }


def _work_of(rows: Rows, wanted: int, device: torch.device) -> _Work:
    chosen = spread_rows(len(rows), wanted)
    chosen = chosen[rows.lengths_N[chosen].argsort(descending=True, stable=True)]
    singles = chosen[spread_rows(len(chosen), SINGLE_ROWS)]
    return _Work(
        batches={
            BATCH_SIZE: _on(batches_of(rows, chosen, BATCH_SIZE), device),
            1: _on(batches_of(rows, singles, 1), device),
        },
        rows={BATCH_SIZE: len(chosen), 1: len(singles)},
    )


def _on(batches: Batches, device: torch.device) -> Batches:
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


def _rounds(
    models: Mapping[Name, Any], work_of: Mapping[Name, _Work], device: torch.device, tick: Tick
) -> dict[tuple[Name, int], list[float]]:
    """Seconds of every (model, batch size), one entry per round."""
    passes: dict[tuple[Name, int], Callable[[], float]] = {}
    for name, model in models.items():
        model.to(device)
        for size, batches in work_of[name].batches.items():
            seconds_of(partial(_run, model, batches[:1]), device)
            passes[name, size] = partial(seconds_of, partial(_run, model, batches), device)
    rounds = Rounds(least=MIN_ROUNDS, most=MAX_ROUNDS, seconds=SECONDS_PER_MODEL * len(models))
    return take_turns(passes, rounds, "inference speed", tick)


def _run(model: Any, batches: Batches) -> None:
    for batch in batches:
        model(**batch)
