"""Batches and runs for the tests of strategies.

Shapes: B rows, L teacher layers that a strategy reads, M student layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.strategies import make_strategy
from pipeline.strategies.base import Matched, Strategy
from pipeline.student.fit import fit_student
from tests.support.tiny import STUDENT, World


def batch_of(
    strategy: Strategy, rows: int = 6, seed: int = 0, labels: Tensor | None = None
) -> Matched:
    """A random batch, as the training loop would hand it to `strategy`: rows 0, 1, ..."""
    s, draw = strategy.shapes, torch.Generator().manual_seed(seed)
    layers = len(strategy.teacher_layers)
    return Matched(
        torch.randn(rows, s.student_layers, s.student_hidden, generator=draw).requires_grad_(),
        torch.randn(rows, layers, s.teacher_hidden, generator=draw),
        torch.arange(rows),
        torch.arange(rows) % 2 if labels is None else labels,
    )


def arrays_of(batch: Matched) -> tuple[np.ndarray, np.ndarray]:
    """Student and teacher vectors for a second formula, float64."""
    return batch.student_BMH.detach().double().numpy(), batch.teacher_BLH.double().numpy()


def unit(values: np.ndarray) -> np.ndarray:
    """Scaled to length 1 in the last dimension."""
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def fit(
    world: World, out: Path, *, cache: Path | None = None, resume: bool = False,
    on_step: Callable[[Any], None] = lambda _: None, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """The record of a tiny student."""
    params = replace(STUDENT, **({"init": str(world.encoder)} | changes))
    _, record = fit_student(
        cache_path=cache or world.cache16, out=out, params=params, sources={},
        resume=resume, on_step=on_step,
    )  # fmt: skip
    return record


class StoppedError(Exception):
    """Somebody pulled the plug."""


def stop_in_the_second_epoch(entry: Any) -> None:
    if entry.epoch > 1:
        raise StoppedError


def require_same_after_resume(
    world: World, folder: Path, at_stop: Callable[[Path], None] = lambda _: None, **changes: Any
) -> None:
    """Fit once, and once more stopped after the first epoch and resumed: the same bytes.

    Args:
        at_stop: given the checkpoint's folder while the run is stopped.
    """
    fit(world, folder / "whole", **changes)
    with pytest.raises(StoppedError):
        fit(world, folder / "cut", on_step=stop_in_the_second_epoch, **changes)
    assert not (folder / "cut").exists()
    at_stop(folder / ".cut.partial" / ".state" / "last")
    told: list[Any] = []
    fit(world, folder / "cut", resume=True, on_step=told.append, **changes)
    assert {entry.epoch for entry in told} == {2}
    whole, cut = (folder / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def keep_strategies(patch: pytest.MonkeyPatch) -> list[Strategy]:
    """Lists the strategies that `fit_student` makes from now on."""
    made: list[Strategy] = []

    def making(*arguments: Any) -> Strategy:
        made.append(make_strategy(*arguments))
        return made[-1]

    patch.setattr("pipeline.student.recipe.make_strategy", making)
    return made
