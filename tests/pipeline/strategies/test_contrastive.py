"""pytest tests/pipeline/strategies/test_contrastive.py

Shapes: B rows, K negatives, N training rows, U size of the shared space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import ParamsError
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched
from pipeline.strategies.contrastive import Contrastive, contrast
from tests.pipeline.strategies.matched import (
    batch_of,
    keep_strategies,
    require_same_after_resume,
    unit,
)
from tests.support.runs import strategy_for
from tests.support.tiny import World

THREE = torch.tensor([0, 1, 2, 0, 1, -100])


def contrastive(layers: int = 4, depth: int = 2, **changes: Any) -> Contrastive:
    more = {
        key: changes.pop(key)
        for key in ("hidden", "student_hidden", "rows", "classes", "labelled_rows")
        if key in changes
    }
    given = {"match_size": 5, "negatives": 7} | changes
    params = StudentParams(strategy="contrastive", student_layers=depth, **given)
    strategy = strategy_for(params, teacher_layers=layers, **more)
    assert isinstance(strategy, Contrastive)
    return strategy


def seen(labels: list[int], rows: int = 20, **changes: Any) -> Contrastive:
    """One that has seen rows 0, 1, ... of these classes."""
    strategy = contrastive(rows=rows, classes=3, **changes)
    strategy.label_N[: len(labels)] = torch.tensor(labels)
    return strategy


def mapped(layer: torch.nn.Linear, states_BLH: Tensor) -> np.ndarray:
    """In numpy: layers one after another, the linear map, length 1."""
    flat = states_BLH.detach().double().numpy().reshape(len(states_BLH), -1)
    weight, bias = (each.detach().double().numpy() for each in (layer.weight, layer.bias))
    return unit(flat @ weight.T + bias)


def test_worked_contrast() -> None:
    """Similarities 1 and 0, tau 0.07, two negatives: log(1 + 2 e^(-1 / 0.07)); and log 3."""
    right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0], [0.0, -1.0]]])
    sure = float(contrast(right.double(), right.double(), up.double()))
    assert sure == pytest.approx(float(np.log1p(2 * np.exp(-1 / 0.07))), rel=1e-6)
    same = right[:, None].expand(1, 2, 2)
    assert float(contrast(right, right, same)) == pytest.approx(np.log(3), rel=1e-6)


def test_contrast_equals_the_second_formula() -> None:
    draw = np.random.default_rng(0)
    student, teacher = unit(draw.normal(size=(2, 6, 5)))
    negatives = unit(draw.normal(size=(6, 7, 5)))
    powers = np.exp((student * teacher).sum(-1) / 0.07)
    others = np.exp(np.array([n @ s for n, s in zip(negatives, student, strict=True)]) / 0.07)
    by_hand = -np.log(powers / (powers + others.sum(1)))
    found = contrast(*(torch.from_numpy(each) for each in (student, teacher, negatives)))
    np.testing.assert_allclose(found.numpy(), by_hand, rtol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(4, 2), (12, 3), (24, 6), (12, 1), (4, 4)])
def test_the_loss_of_a_batch_equals_the_second_formula(n: int, m: int) -> None:
    strategy = contrastive(n, m, rows=20, classes=3)
    assert strategy.teacher_layers == tuple(range(1, n, 2)), "every second layer from the first"
    strategy.label_N[10:18] = torch.tensor([0, 1, 2, 0, 1, 2, 0, -100])
    batch = batch_of(strategy, labels=THREE)
    bank = strategy.bank_NU.double().numpy().copy()
    torch.manual_seed(3)
    chosen, _ = strategy._negatives(THREE)
    torch.manual_seed(3)
    found = strategy(batch).item()
    student = mapped(strategy.of_student, batch.student_BMH)
    teacher = mapped(strategy.of_teacher, batch.teacher_BLH)
    losses = []
    for row in range(5):  # the sixth has no label
        similar = np.concatenate([[student[row] @ teacher[row]], bank[chosen[row]] @ student[row]])
        scaled = similar / 0.07
        losses.append(np.log(np.exp(scaled - scaled[0]).sum()))
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_negatives_are_seen_rows_of_other_classes_each_as_likely() -> None:
    labels = [0, 1, 2, 0, 1, -100, 2, 2]
    strategy = seen(labels, negatives=30_000)
    found_BK, there_B = strategy._negatives(torch.tensor([0, 1, 2, -100]))
    assert there_B.tolist() == [True, True, True, False]
    for label in (0, 1, 2):
        wanted = [row for row, other in enumerate(labels) if other not in (label, -100)]
        counts = np.bincount(found_BK[label], minlength=20)
        assert list(np.nonzero(counts)[0]) == wanted
        np.testing.assert_allclose(counts[wanted] / 30_000, 1 / len(wanted), atol=0.02)


def test_before_another_class_was_seen_there_is_no_loss_and_no_gradient() -> None:
    for strategy in (contrastive(rows=20), seen([1, 1, 1]), seen([-100, -100])):
        batch = batch_of(strategy, labels=torch.ones(6, dtype=torch.int64))
        loss = strategy(batch)
        assert loss.item() == 0.0
        loss.backward()
        assert batch.student_BMH.grad is not None
        assert float(batch.student_BMH.grad.abs().max()) == 0.0


def test_a_batch_without_labels() -> None:
    strategy = seen([0, 1, 2])
    batch = batch_of(strategy, labels=torch.full((6,), -100))
    assert strategy(batch).item() == 0.0


def test_the_bank_moves_half_way_to_what_it_sees_in_training_alone() -> None:
    strategy = contrastive(rows=20, classes=3)
    old = strategy.bank_NU.clone()
    np.testing.assert_allclose(np.linalg.norm(old, axis=-1), 1.0, rtol=1e-5)
    rows = torch.tensor([3, 19, 4, 0, 7, 8])
    batch = batch_of(strategy, labels=THREE)._replace(rows_B=rows)
    strategy.eval()
    strategy(batch)
    assert torch.equal(strategy.bank_NU, old)
    strategy.train()
    strategy(batch)
    teacher = mapped(strategy.of_teacher, batch.teacher_BLH)
    moved = unit(0.5 * old[rows].double().numpy() + 0.5 * teacher)
    np.testing.assert_allclose(strategy.bank_NU[rows].numpy(), moved, atol=1e-6)
    others = [row for row in range(20) if row not in rows]
    assert torch.equal(strategy.bank_NU[others], old[others])
    assert strategy.label_N[rows].tolist() == THREE.tolist()
    assert set(strategy.label_N[others].tolist()) == {-100}


def test_gradients_reach_the_student_and_the_maps_not_the_bank() -> None:
    strategy = contrastive(12, 3, rows=20, hidden=16, student_hidden=8, project=True)
    batch: Matched = batch_of(strategy)
    strategy(batch)  # fills the bank
    strategy(batch).backward()
    for tensor in (batch.student_BMH, *strategy.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
    assert batch.teacher_BLH.grad is None
    assert not strategy.bank_NU.requires_grad


def test_what_has_no_classes_is_refused() -> None:
    with pytest.raises(ParamsError, match="needs classes; this task is a regression"):
        contrastive(classes=1)
    with pytest.raises(ParamsError, match="the cache has no labelled one. Build it from labelled"):
        contrastive(labelled_rows=0)
    assert contrastive(labelled_rows=1)


def test_a_resumed_run_goes_on_with_its_bank(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep_strategies(monkeypatch)
    kept: dict[str, Tensor] = {}

    def look(checkpoint: Path) -> None:
        (path,) = checkpoint.glob("custom_checkpoint_*.pkl")
        kept.update(torch.load(path, weights_only=True))

    require_same_after_resume(world, tmp_path, look, strategy="contrastive")
    whole, _, resumed = (strategy.state_dict() for strategy in made)
    assert {f"strategy.{name}" for name in whole} == set(kept)
    assert kept["strategy.bank_NU"].shape == (150, 128)
    assert -100 not in kept["strategy.label_N"], "an epoch has seen every row"
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
