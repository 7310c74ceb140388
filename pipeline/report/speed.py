"""Measured inference speed: models side by side, interleaved, the fastest of several rounds.

The fastest round is the one that other work on the machine disturbed least: on a busy machine a
median measures the neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from pipeline.batches import Rows
from pipeline.progress import Tick, silent
from pipeline.report.tokens import batches_of, spread_rows

BATCH_SIZE = 32
SINGLE_ROWS = 16  # rows that are also run one by one
MIN_ROUNDS, MAX_ROUNDS = 3, 25
SECONDS_PER_MODEL = 3.0  # rounds stop here, after the least number of them

Name = TypeVar("Name", bound=Hashable)
Batches = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one model on one device, float32."""

    rows_per_second: float
    """In batches of `BATCH_SIZE`."""
    milliseconds_per_row: float
    """One row at a time."""


def measure(
    models: Mapping[Name, Any], rows: Rows, wanted: int, device: torch.device, tick: Tick = silent
) -> dict[Name, Speed]:
    """Time every model on the same rows of similar length.

    Each model is first run once, untimed. Then the models take turns, so that a machine that slows
    down slows all of them.

    Args:
        models: name to a loaded classifier in eval mode.
        rows: validation rows.
        wanted: how many of them, evenly spaced.
        device: where to run.
        tick: told of finished rounds.
    """
    chosen = spread_rows(len(rows), wanted)
    chosen = chosen[rows.lengths_N[chosen].argsort(descending=True, stable=True)]
    singles = chosen[spread_rows(len(chosen), SINGLE_ROWS)]
    work = {
        BATCH_SIZE: _on(batches_of(rows, chosen, BATCH_SIZE), device),
        1: _on(batches_of(rows, singles, 1), device),
    }
    timed = _rounds(models, work, device, tick)
    return {
        name: Speed(
            rows_per_second=len(chosen) / min(timed[name, BATCH_SIZE]),
            milliseconds_per_row=1000 * min(timed[name, 1]) / len(singles),
        )
        for name in models
    }


def _on(batches: Batches, device: torch.device) -> Batches:
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


def _rounds(
    models: Mapping[Name, Any], work: Mapping[int, Batches], device: torch.device, tick: Tick
) -> dict[tuple[Name, int], list[float]]:
    """Seconds of every (model, batch size), one entry per round."""
    timed: dict[tuple[Name, int], list[float]] = {(n, size): [] for n in models for size in work}
    for model in models.values():
        for batches in work.values():
            _seconds(model.to(device), batches[:1], device)
    start = time.perf_counter()
    for done in range(1, MAX_ROUNDS + 1):
        for name, model in models.items():
            for size, batches in work.items():
                timed[name, size].append(_seconds(model, batches, device))
        spent = time.perf_counter() - start
        ended = done == MAX_ROUNDS or (
            done >= MIN_ROUNDS and spent > SECONDS_PER_MODEL * len(models)
        )
        tick("inference speed", done, done if ended else MAX_ROUNDS)
        if ended:
            break
    return timed


def _seconds(model: Any, batches: Batches, device: torch.device) -> float:
    """Wall time of one pass."""
    with torch.inference_mode():
        _synchronize(device)
        start = time.perf_counter()
        for batch in batches:
            model(**batch)
        _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
