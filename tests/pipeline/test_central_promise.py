"""pytest tests/pipeline/test_central_promise.py

Training from the cache equals training against the live teacher: the same losses step by step and
the same final weights, within 1e-6 from a float32 cache (the teacher's batches have other shapes in
the two runs, which rounds differently), and within 2e-3 from a float16 cache. Key biases, which
change no output, are not trained here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.models.load import build_classifier
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import load_rows
from pipeline.student.recipe import objective_of
from pipeline.student.targets import Targets, load_targets
from pipeline.tasks import Task
from pipeline.teacher.forward import LiveTargets, load_teacher
from pipeline.training.loop import StepLog, train
from tests.support.runs import strategy_for, terms_for
from tests.support.tiny import STUDENT, World

CPU = torch.device("cpu")
# four times the usual rate, so that the weights go far
PARAMS = replace(
    STUDENT, strategy="skip", student_layers=3, dropout=0.0, epochs=3, learning_rate=2e-4
)


def run(
    world: World, targets: Targets, params: StudentParams, state: Path
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Losses of every step that was told, and the final weights."""
    cache = TeacherCache.open(world.cache)
    task = Task.from_dict(cache.manifest.task)
    model = build_classifier(
        str(world.encoder), task, layers=params.student_layers, seed=params.seed, dropout=0.0
    )
    for name, weight in model.named_parameters():
        # a softmax does not see key biases: their true gradient is 0, and Adam would make steps out
        # of its rounding errors, which differ from processor to processor
        weight.requires_grad_("key.bias" not in name)
    told: list[StepLog] = []
    terms = terms_for(model, params, targets)
    train(
        model, load_rows(cache, "train", CPU), terms,
        lambda: {"validation": {"accuracy": float(len(told))}},  # the last epoch is the best
        params, state, device=CPU, resume=False, on_step=told.append, on_epoch=lambda _: None,
    )  # fmt: skip
    return [entry.losses for entry in told], model.state_dict()


def run_start(world: World, params: StudentParams) -> dict[str, torch.Tensor]:
    """Weights before training."""
    task = Task.from_dict(TeacherCache.open(world.cache).manifest.task)
    model = build_classifier(
        str(world.encoder), task, layers=params.student_layers, seed=params.seed, dropout=0.0
    )
    return dict(model.state_dict())


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float16", 2e-3)])
@pytest.mark.parametrize("strategy", ["skip", "last", "kd", "emd", "rail", "alp"])
def test_a_student_learns_the_same_from_the_cache_as_from_the_live_teacher(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    strategy: str, precision: str, tolerance: float,
) -> None:  # fmt: skip
    monkeypatch.setattr("pipeline.training.loop.LOG_EVERY", 1)
    params = replace(PARAMS, strategy=strategy)
    layers = strategy_for(params).teacher_layers
    path = world.cache if precision == "float32" else world.cache16
    cached = load_targets(TeacherCache.open(path), "train", layers, CPU)
    teacher = load_teacher(str(world.teacher), device=CPU, compute="float32")
    live = LiveTargets(teacher, layers)
    from_cache, cache_weights = run(world, cached, params, tmp_path / "cached")
    from_live, live_weights = run(world, live, params, tmp_path / "live")
    assert len(from_cache) == len(from_live) == 3 * 10
    assert set(from_cache[0]) == ({"ce", "kd", "total"} | ({"pt"} if layers else set()))
    for one, other in zip(from_cache, from_live, strict=True):
        # a loss of 10 has float32 neighbours 1e-6 away, so the tolerance is relative there
        relative = 1e-6 if precision == "float32" else 1e-4
        assert one == pytest.approx(other, abs=tolerance, rel=relative)
    start = run_start(world, params)
    assert max(float((live_weights[n] - start[n]).abs().max()) for n in start) > 1e-3
    for name, weight in live_weights.items():
        torch.testing.assert_close(cache_weights[name], weight, rtol=0, atol=tolerance)


def test_the_promise_is_about_the_right_rows(world: World) -> None:
    """The comparison above can fail: targets shifted by one row give other losses."""
    layers = (1, 3)
    targets = load_targets(TeacherCache.open(world.cache), "train", layers, CPU)
    teacher = load_teacher(str(world.teacher), device=CPU, compute="float32")
    rows = load_rows(TeacherCache.open(world.cache), "train", CPU)
    chosen = torch.tensor([7, 3, 99])
    inputs = rows.batch(chosen, int(rows.lengths_N[chosen].max()))
    logits, cls = LiveTargets(teacher, layers)(chosen, inputs)
    torch.testing.assert_close(targets(chosen, inputs)[0], logits, rtol=0, atol=2e-6)
    torch.testing.assert_close(targets(chosen, inputs)[1], cls, rtol=0, atol=2e-6)
    assert (targets(chosen + 1, inputs)[1] - cls).abs().max() > 1e-2


def test_objective_of_a_strategy() -> None:
    params = StudentParams(alpha=0.3, beta=7.0)
    kinds = {name: replace(params, strategy=name) for name in ("finetune", "kd", "skip", "emd")}
    weights = {name: objective_of(kind, strategy_for(kind)) for name, kind in kinds.items()}
    found = {name: (o.alpha, o.beta) for name, o in weights.items()}
    assert found == {"finetune": (0.0, 0.0), "kd": (0.3, 0.0), "skip": (0.3, 7.0)} | {
        "emd": (0.3, 7.0)
    }
    shallow = replace(params, strategy="skip", student_layers=1)
    assert objective_of(shallow, strategy_for(shallow)).beta == 0.0
