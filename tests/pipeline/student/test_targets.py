"""pytest tests/pipeline/student/test_targets.py

Shapes: N rows of the split, B of a batch, K classes, L layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import ParamsError
from pipeline.losses import distillation_loss
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import fit_student
from pipeline.student.targets import CachedTargets, HostTargets, controlled, load_targets
from tests.pipeline.strategies.matched import fit, softmax
from tests.support.synthetic import LAYERS, write
from tests.support.tiny import STUDENT, World

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [4.0, 1.0], [0.5, 3.0], [1.0, -1.0], [-2.0, 0.0]])
LABELS = torch.tensor([0, 1, 0, 1, -100, -100])
COUNTED = torch.tensor([0, 1, 0, 1, 0, 1])
"""Their classes, where the teacher's first choice stands in for no label."""


def targets_of(logits_NK: Tensor) -> CachedTargets:
    return CachedTargets(logits_NK, torch.randn(len(logits_NK), 2, 4))


def many(rows: int = 60, classes: int = 3) -> tuple[CachedTargets, Tensor]:
    draw = torch.Generator().manual_seed(1)
    labels_N = torch.randint(classes, (rows,), generator=draw)
    return targets_of(torch.randn(rows, classes, generator=draw)), labels_N


def test_own_outputs_are_the_targets_as_they_are() -> None:
    targets = targets_of(LOGITS)
    assert controlled(targets, LABELS, "own", seed=0).logits_NK is targets.logits_NK


def test_class_mean_by_hand() -> None:
    """Rows 0, 2 and, by the teacher's choice, 4 are of class 0; the others of class 1."""
    result = controlled(targets_of(LOGITS), LABELS, "class-mean", seed=0)
    soft = softmax(LOGITS.double().numpy())
    means = np.stack([soft[[0, 2, 4]].mean(0), soft[[1, 3, 5]].mean(0)])
    assert means[0, 0] == pytest.approx((0.880797 + 0.952574 + 0.880797) / 3, abs=1e-6)
    np.testing.assert_allclose(softmax(result.logits_NK.numpy()), means[COUNTED], rtol=1e-5)


def test_class_mean_tells_a_student_no_more_than_the_class() -> None:
    targets, labels_N = many()
    found = controlled(targets, labels_N, "class-mean", seed=0).logits_NK
    for label in range(3):
        assert len(found[labels_N == label].unique(dim=0)) == 1
    at_one = distillation_loss(targets.logits_NK, found, 1.0, "paper")
    assert float(at_one) > 0.01


def test_permuted_gives_each_row_the_outputs_of_a_row_of_its_class() -> None:
    targets, labels_N = many()
    found = controlled(targets, labels_N, "permuted", seed=0).logits_NK
    for label in range(3):
        mine, theirs = found[labels_N == label], targets.logits_NK[labels_N == label]
        assert sorted(mine.tolist()) == sorted(theirs.tolist())


@pytest.mark.parametrize("seed", range(20))
def test_no_row_keeps_its_own_outputs_but_the_only_one_of_a_class(seed: int) -> None:
    labels_N = torch.tensor([0, 1, 2, 1, 1, 3, 2, 0, 1, 2])
    targets = targets_of(torch.randn(10, 4, generator=torch.Generator().manual_seed(2)))
    found = controlled(targets, labels_N, "permuted", seed).logits_NK
    kept = (found == targets.logits_NK).all(1)
    assert kept.tolist() == [label == 3 for label in labels_N]


def test_two_rows_of_a_class_change_places() -> None:
    targets = targets_of(LOGITS[:4])
    found = controlled(targets, torch.tensor([0, 1, 0, 1]), "permuted", seed=5).logits_NK
    assert torch.equal(found, LOGITS[[2, 3, 0, 1]])


def test_a_class_mean_of_very_sure_teachers_is_finite() -> None:
    """Softmax of 200 below the largest is 0 in float32, whose logarithm no student can learn."""
    logits_NK = torch.tensor([[200.0, 0.0], [300.0, 0.0]])
    found = controlled(targets_of(logits_NK), torch.tensor([0, 0]), "class-mean", 0).logits_NK
    expected = np.logaddexp(-200.0, -300.0) - np.log(2)
    np.testing.assert_allclose(found.numpy(), [[0.0, expected]] * 2, rtol=1e-6)
    loss = distillation_loss(torch.zeros(2, 2), found, 1.0, "paper")
    assert loss.isfinite()


def test_unlabelled_rows_are_permuted_with_the_class_that_the_teacher_gives_them() -> None:
    for seed in range(20):
        found = controlled(targets_of(LOGITS), LABELS, "permuted", seed).logits_NK
        for label in (0, 1):
            rows = label == COUNTED
            assert sorted(found[rows].tolist()) == sorted(LOGITS[rows].tolist())


def test_a_permutation_is_drawn_by_the_seed() -> None:
    targets, labels_N = many()
    one, again, other = (controlled(targets, labels_N, "permuted", s).logits_NK for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("control", ["class-mean", "permuted"])
def test_controls_change_the_logits_of_a_copy_alone(control: str) -> None:
    targets, labels_N = many()
    before = targets.logits_NK.clone()
    result = controlled(targets, labels_N, control, seed=0)
    assert torch.equal(targets.logits_NK, before)
    assert result.cls_NLH is targets.cls_NLH
    assert not torch.equal(result.logits_NK, before)


@pytest.mark.parametrize("control", ["class-mean", "permuted"])
def test_a_regression_has_no_classes_to_keep(control: str) -> None:
    targets = targets_of(torch.randn(5, 1))
    with pytest.raises(ParamsError, match=f"--teacher-outputs {control}: needs classes"):
        controlled(targets, torch.randn(5), control, seed=0)
    assert controlled(targets, torch.randn(5), "own", seed=0).logits_NK is targets.logits_NK


@pytest.mark.parametrize("control", ["class-mean", "permuted"])
def test_a_run_with_a_control_learns_other_logits(
    world: World, tmp_path: Path, control: str
) -> None:
    more: dict[str, Any] = {"strategy": "kd", "alpha": 1.0, "epochs": 1, "temperature": 1.0}
    own = fit(world, tmp_path / "own", **more)
    record = fit(world, tmp_path / "control", teacher_outputs=control, **more)
    kd = [each["history"][0]["losses"]["kd"] for each in (own, record)]
    assert abs(kd[0] - kd[1]) > 1e-4
    assert record["params"]["teacher_outputs"] == control


def test_rows_are_gathered_in_any_order_and_as_often_as_asked() -> None:
    targets = targets_of(LOGITS)
    rows_B = torch.tensor([5, 0, 0, 3])
    logits_BK, cls_BLH = targets(rows_B, {})
    assert torch.equal(logits_BK, LOGITS[rows_B])
    assert torch.equal(cls_BLH, targets.cls_NLH[rows_B])


def test_layers_are_read_in_the_order_asked_and_twice_if_need_be(world: World) -> None:
    cache = TeacherCache.open(world.cache)
    one, other = (load_targets(cache, "train", layers, CPU) for layers in ((1, 3), (3, 1, 3)))
    assert torch.equal(other.cls_NLH, one.cls_NLH[:, [1, 0, 1]])
    assert load_targets(cache, "train", (), CPU).cls_NLH.shape == (150, 0, 16)


# --- vectors that do not fit on a device ---------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_vectors_in_main_memory_are_those_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    write(tmp_path / "c.zarr", dtype=dtype)
    cache, cpu = TeacherCache.open(tmp_path / "c.zarr"), torch.device("cpu")
    resident = load_targets(cache, "train", LAYERS, cpu)
    monkeypatch.setattr("pipeline.student.targets.free_bytes", lambda _: 10.0)
    host = load_targets(cache, "train", LAYERS, cpu)
    assert (type(resident), type(host)) == (CachedTargets, HostTargets)
    for rows in (torch.tensor([3, 1, 36]), torch.tensor([0])):
        expected = resident(rows, {})
        torch.testing.assert_close(host(rows, {}), expected, rtol=0, atol=0)
        host.prefetch(rows)
        torch.testing.assert_close(host(rows, {}), expected, rtol=0, atol=0)


def test_a_run_from_main_memory_is_the_same_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the loop tells the targets of every batch before its step."""
    told: list[list[int]] = []
    real = HostTargets.prefetch

    def prefetch(self: HostTargets, rows_B: Tensor) -> None:
        told.append(rows_B.tolist())
        real(self, rows_B)

    params = replace(STUDENT, init=str(world.encoder), epochs=1)
    given: dict[str, Any] = {"cache_path": world.cache16, "params": params, "sources": {}}
    fit_student(**given, out=tmp_path / "resident")
    monkeypatch.setattr("pipeline.student.targets.free_bytes", lambda _: 10.0)
    monkeypatch.setattr(HostTargets, "prefetch", prefetch)
    fit_student(**given, out=tmp_path / "host")
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("resident", "host"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert sorted(row for batch in told for row in batch) == list(range(150))
