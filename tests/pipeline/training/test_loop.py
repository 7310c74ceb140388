"""pytest tests/pipeline/training/test_loop.py"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.models.load import build_classifier
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import load_rows
from pipeline.student.targets import load_targets
from pipeline.tasks import Task
from pipeline.training.checkpoints import Progress
from pipeline.training.loop import StepLog, make_optimizer, train
from tests.support.runs import terms_for
from tests.support.tiny import STUDENT, World

CPU = torch.device("cpu")
PARAMS = replace(STUDENT, strategy="skip", student_layers=3, epochs=4, seed=3)


class StoppedError(Exception):
    """Stands for a kill."""


def fit(
    world: World,
    state: Path,
    params: StudentParams = PARAMS,
    *,
    resume: bool = False,
    scores: list[float] | None = None,
    on_step: Callable[[StepLog], None] = lambda _: None,
) -> tuple[Any, Progress]:
    """A short skip run, with dropout, on the tiny cache; scores by epoch are given."""
    cache = TeacherCache.open(world.cache)
    model = build_classifier(
        str(world.encoder), Task.from_dict(cache.manifest.task),
        layers=3, seed=params.seed, dropout=params.dropout,
    )  # fmt: skip
    epochs = iter(scores or [0.1, 0.2, 0.3, 0.4])
    terms = terms_for(model, params, load_targets(cache, "train", (1, 3), CPU))
    progress = train(
        model, load_rows(cache, "train", CPU), terms,
        lambda: {"validation": {"accuracy": next(epochs)}}, params, state,
        device=CPU, resume=resume, on_step=on_step, on_epoch=lambda _: None,
    )  # fmt: skip
    return model, progress


def test_the_loss_falls_and_every_epoch_is_recorded(world: World, tmp_path: Path) -> None:
    told: list[StepLog] = []
    _, progress = fit(world, tmp_path, replace(PARAMS, epochs=6), on_step=told.append,
                      scores=[0.1] * 6)  # fmt: skip
    totals = [record["losses"]["total"] for record in progress.history]
    assert totals[-1] < 0.8 * totals[0]
    assert [record["epoch"] for record in progress.history] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in progress.history] == [10, 20, 30, 40, 50, 60]
    assert [entry.step for entry in told][:3] == [1, 10, 11]
    assert told[-1].rows == 6 * 150
    assert told[0].losses["total"] == pytest.approx(
        sum(value for name, value in told[0].losses.items() if name != "total"), rel=1e-6
    )


def test_dropout_is_on_in_every_epoch(world: World, tmp_path: Path) -> None:
    """The original code loses dropout after the first evaluation."""
    seen: list[bool] = []
    original = torch.nn.Dropout.forward

    def spy(module: torch.nn.Dropout, value: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(module.training and module.p > 0)
        return original(module, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Dropout, "forward", spy)
        fit(world, tmp_path)
    assert seen
    assert all(seen)


def test_warm_up_then_linear_decay() -> None:
    model = torch.nn.Linear(2, 2)
    settings = replace(PARAMS, learning_rate=1.0, warmup=0.25)
    optimizer, scheduler = make_optimizer(model, settings, 8)
    rates = []
    for _ in range(8):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    decay = {len(group["params"]): group["weight_decay"] for group in optimizer.param_groups}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert decay
    assert optimizer.param_groups[1]["params"][0] is model.bias


def test_the_best_epoch_is_kept_the_earlier_when_equal(world: World, tmp_path: Path) -> None:
    three, _ = fit(world, tmp_path / "3", replace(PARAMS, epochs=3), scores=[0.1, 0.2, 0.9])
    best, progress = fit(world, tmp_path / "4", scores=[0.1, 0.9, 0.3, 0.9])
    assert progress.best_epoch == 2
    assert progress.best_score == 0.9
    assert progress.epoch == 4
    del three
    again, _ = fit(world, tmp_path / "again", scores=[0.1, 0.9, 0.3, 0.2])
    for name, weight in best.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)


def test_the_last_epoch_is_kept_where_that_is_asked_for(world: World, tmp_path: Path) -> None:
    """As when the validation rows are those of the report, and must choose nothing."""
    last = replace(PARAMS, keep="last")
    kept, progress = fit(world, tmp_path / "last", last, scores=[0.1, 0.9, 0.3, 0.2])
    assert (progress.best_epoch, progress.best_score) == (4, 0.2)
    rising, _ = fit(world, tmp_path / "rising", scores=[0.1, 0.2, 0.3, 0.4])
    other, _ = fit(world, tmp_path / "other", scores=[0.1, 0.9, 0.3, 0.2])
    same = [torch.equal(kept.state_dict()[n], w) for n, w in rising.state_dict().items()]
    differs = [not torch.equal(kept.state_dict()[n], w) for n, w in other.state_dict().items()]
    assert all(same)
    assert any(differs)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    world: World, tmp_path: Path, stop_after: int
) -> None:
    whole, expected = fit(world, tmp_path / "whole")

    def stop(entry: StepLog) -> None:
        if entry.step > 10 * stop_after + 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(world, tmp_path / "cut", on_step=stop)
    left = [0.1, 0.2, 0.3, 0.4][stop_after:]
    resumed, progress = fit(world, tmp_path / "cut", resume=True, scores=left)
    assert [each["epoch"] for each in progress.history] == [1, 2, 3, 4]
    assert progress.best_epoch == expected.best_epoch
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=0, atol=0)
    losses = [[record["losses"]["total"] for record in p.history] for p in (progress, expected)]
    assert losses[0] == pytest.approx(losses[1], abs=0)


def test_a_loss_that_is_not_finite_stops_before_the_step(world: World, tmp_path: Path) -> None:
    cache = TeacherCache.open(world.cache)
    model = build_classifier(
        str(world.encoder), Task.from_dict(cache.manifest.task), layers=2, seed=0, dropout=0.0
    )
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    def terms(*_: Any) -> dict[str, torch.Tensor]:
        weight = next(iter(model.parameters()))
        return {"ce": weight.sum() * float("nan"), "kd": weight.abs().sum() * 0}

    with pytest.raises(TrainingError, match=r"Step 1: the loss is not finite \(ce nan, kd 0"):
        train(
            model, load_rows(cache, "train", CPU), terms, dict, PARAMS, tmp_path,
            device=CPU, resume=False, on_step=lambda _: None, on_epoch=lambda _: None,
        )  # fmt: skip
    for name, weight in model.state_dict().items():
        assert torch.equal(before[name], weight)


def test_the_golden_loss_curve(world: World, tmp_path: Path) -> None:
    """A refactoring shows the same curve; a change of numerics replaces the file on purpose.

    Regenerate: PKD_GOLDEN=1 pytest tests/pipeline/training/test_loop.py -k golden
    """
    import os

    told: list[float] = []
    params = replace(PARAMS, dropout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.loop.LOG_EVERY", 1)
        fit(world, tmp_path, params, on_step=lambda entry: told.append(entry.losses["total"]))
    golden = Path(__file__).parents[2] / "golden" / "tiny_rte_skip.txt"
    if os.environ.get("PKD_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        np.savetxt(golden, told, fmt="%.6f")
    # the teacher is trained on the machine at hand, whose last bits are its own
    np.testing.assert_allclose(told, np.loadtxt(golden), rtol=2e-3)
