"""pytest tests/pipeline/strategies/test_emd.py

Shapes: B rows, N teacher layers, M student layers, H hidden size.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from pipeline.errors import TrainingError
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Strategy
from pipeline.strategies.emd import EarthMover, attended, layer_costs, transport
from tests.pipeline.strategies.matched import (
    arrays_of,
    batch_of,
    fit,
    keep_strategies,
    require_same_after_resume,
    softmax,
)
from tests.support.runs import strategy_for
from tests.support.tiny import World

# the worked example: three teacher layers, two student layers
COST = np.array([[0.1, 0.9], [0.4, 0.5], [0.8, 0.2]])
THIRDS, HALVES = np.full(3, 1 / 3), np.full(2, 1 / 2)


def emd(layers: int = 4, depth: int = 2, **changes: Any) -> EarthMover:
    more = {name: changes.pop(name) for name in ("hidden", "student_hidden") if name in changes}
    params = StudentParams(strategy="emd", student_layers=depth, **changes)
    strategy = strategy_for(params, teacher_layers=layers, **more)
    assert isinstance(strategy, EarthMover)
    return strategy


def solved(weight_N: np.ndarray, weight_M: np.ndarray, cost_NM: np.ndarray) -> np.ndarray:
    """The cheapest flow by another solver: the linear program as it is written."""
    n, m = cost_NM.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = linprog(
        cost_NM.ravel(), A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([weight_N, weight_M]), bounds=(0, None), method="highs",
    )  # fmt: skip
    return np.asarray(found.x).reshape(n, m)


def costs_by_hand(student_BMH: np.ndarray, teacher_BNH: np.ndarray) -> np.ndarray:
    """Layer by layer."""
    result = np.empty((teacher_BNH.shape[1], student_BMH.shape[1]))
    for i, j in np.ndindex(*result.shape):
        result[i, j] = ((teacher_BNH[:, i] - student_BMH[:, j]) ** 2).mean()
    return result


def weights_by_hand(moved: np.ndarray, weight: np.ndarray, kind: str, tau: float) -> np.ndarray:
    """Eq. 23 for one side: moved = sum over the other side of flow times cost."""
    unit = moved / weight
    inverse = unit.sum() / unit
    return softmax(inverse / tau) if kind == "softmax" else inverse / inverse.sum()


def test_worked_numbers_of_the_flow() -> None:
    flow = transport(THIRDS, HALVES, COST)
    assert float((flow * COST).sum()) == pytest.approx(0.25, abs=1e-12)
    assert flow.sum(1) == pytest.approx(THIRDS)
    assert flow.sum(0) == pytest.approx(HALVES)
    assert flow.min() >= 0


WORKED = [
    ("l1", 1.0, [0.580645, 0.129032, 0.290323], [0.6, 0.4]),
    ("softmax", 1.0, [0.974235, 0.002853, 0.022912], [0.697059, 0.302941]),
    ("softmax", 5.0, [0.56061, 0.174576, 0.264814], [0.54157, 0.45843]),
]


@pytest.mark.parametrize(("kind", "tau", "teacher", "student"), WORKED)
def test_worked_numbers_of_the_weights(
    kind: str, tau: float, teacher: list[float], student: list[float]
) -> None:
    moved = transport(THIRDS, HALVES, COST) * COST
    assert moved.sum(1) / THIRDS == pytest.approx([0.1, 0.45, 0.2])
    assert moved.sum(0) / HALVES == pytest.approx([0.2, 0.3])
    assert 0.75 / np.array([0.1, 0.45, 0.2]) == pytest.approx([7.5, 5 / 3, 3.75])
    assert attended(THIRDS, moved.sum(1), kind, tau) == pytest.approx(teacher, abs=2e-6)
    assert attended(HALVES, moved.sum(0), kind, tau) == pytest.approx(student, abs=2e-6)


@pytest.mark.parametrize(("n", "m"), [(4, 2), (12, 3), (24, 6), (4, 4), (12, 1), (1, 1)])
def test_value_and_marginals_equal_those_of_two_other_solvers(n: int, m: int) -> None:
    draw = np.random.default_rng(n + m)
    for _ in range(20):
        cost, left, right = draw.random((n, m)), draw.random(n) + 0.01, draw.random(m) + 0.01
        left, right = left / left.sum(), right / right.sum()
        flow = transport(left, right, cost)
        value = float((flow * cost).sum())
        assert value == pytest.approx(float(ot.emd2(left, right, cost)), abs=1e-12)
        assert value == pytest.approx(float((solved(left, right, cost) * cost).sum()), abs=1e-9)
        np.testing.assert_allclose(flow.sum(1), left, atol=1e-12)
        np.testing.assert_allclose(flow.sum(0), right, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(24, 6), (3, 3), (5, 1)])
def test_costs_equal_the_loop_over_layers(n: int, m: int) -> None:
    batch = batch_of(emd(n, m, hidden=48))
    found = layer_costs(batch.student_BMH, batch.teacher_BLH).detach().numpy()
    assert found.shape == (n, m)
    np.testing.assert_allclose(found, costs_by_hand(*arrays_of(batch)), rtol=1e-5)


@pytest.mark.parametrize(("kind", "tau"), [("l1", 1.0), ("softmax", 2.0), ("fixed", 1.0)])
@pytest.mark.parametrize(("n", "m"), [(12, 3), (24, 6), (4, 4), (12, 1)])
def test_steps_of_training_equal_the_second_formula(n: int, m: int, kind: str, tau: float) -> None:
    strategy = emd(n, m, emd_weights=kind, emd_temperature=tau)
    left, right = np.full(n, 1 / n), np.full(m, 1 / m)
    for step in range(3):
        batch = batch_of(strategy, seed=step)
        cost = costs_by_hand(*arrays_of(batch))
        flow = solved(left, right, cost)
        assert strategy(batch).item() == pytest.approx((flow * cost).sum(), rel=1e-4)
        if kind != "fixed":
            moved = flow * cost
            left = weights_by_hand(moved.sum(1), left, kind, tau)
            right = weights_by_hand(moved.sum(0), right, kind, tau)
        np.testing.assert_allclose(strategy.weight_N.numpy(), left, atol=1e-5)
        np.testing.assert_allclose(strategy.weight_M.numpy(), right, atol=1e-5)


def test_weights_move_in_training_alone_and_belong_to_the_state() -> None:
    strategy = emd()
    start = strategy.state_dict()["weight_N"].clone()
    strategy.eval()
    strategy(batch_of(strategy))
    assert torch.equal(strategy.weight_N, start)
    strategy.train()
    strategy(batch_of(strategy))
    assert not torch.equal(strategy.weight_N, start)
    again = emd()
    again.load_state_dict(strategy.state_dict())
    assert torch.equal(again.weight_N, strategy.weight_N)
    assert torch.equal(again.weight_M, strategy.weight_M)


def test_the_gradient_passes_through_the_costs_alone() -> None:
    """With the flow held fixed: 2 / (B H) * sum_i f_ij (s_j - t_i)."""
    strategy = emd(12, 3)
    batch = batch_of(strategy)
    strategy(batch).backward()
    student, teacher = arrays_of(batch)
    flow = solved(np.full(12, 1 / 12), np.full(3, 1 / 3), costs_by_hand(student, teacher))
    by_hand = np.einsum("nm,bnmh->bmh", flow, student[:, None] - teacher[:, :, None])
    by_hand *= 2 / student[:, 0].size
    assert batch.student_BMH.grad is not None
    np.testing.assert_allclose(batch.student_BMH.grad.numpy(), by_hand, atol=1e-6)
    assert batch.teacher_BLH.grad is None
    assert not list(strategy.parameters())
    assert not any(buffer.requires_grad for buffer in strategy.buffers())


@pytest.mark.parametrize("kind", ["l1", "softmax"])
def test_a_layer_that_costs_nothing(kind: str) -> None:
    """A student that starts as the teacher's copy: weights stay finite and the loss 0."""
    strategy = emd(3, 3, emd_weights=kind)
    teacher = torch.randn(5, 3, 16)
    batch = Matched(teacher.clone().requires_grad_(), teacher, torch.arange(5), torch.zeros(5))
    for _ in range(3):
        loss = strategy(batch)
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        assert strategy.weight_N.sum() == pytest.approx(1.0)
        assert strategy.weight_N.min() > 0
    loss.backward()
    assert batch.student_BMH.grad is not None
    assert batch.student_BMH.grad.abs().max() < 1e-6


def test_a_layer_that_lost_its_weight_is_judged_by_its_cost() -> None:
    """By softmax the dear layer keeps next to nothing; when both cost the same, it is back."""
    weight = attended(HALVES, HALVES * [1e-3, 5.0], "softmax", 1.0)
    assert 0 < weight[1] < 2e-6
    assert attended(weight, weight * [2.0, 2.0], "softmax", 1.0) == pytest.approx(HALVES)
    still_dear = attended(weight, weight * [0.1, 2.0], "l1", 1.0)
    assert still_dear == pytest.approx([20 / 21, 1 / 21])


def test_costs_that_are_not_finite_reach_the_loss_without_a_warning() -> None:
    strategy = emd()
    batch = batch_of(strategy)
    batch.teacher_BLH[0, 1, 2] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert strategy(batch).isnan()


def test_a_run_that_diverges_is_stopped(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is not finite"):
        fit(world, tmp_path / "s", strategy="emd", learning_rate=1e30, max_grad_norm=0.0)


def test_a_narrower_student_learns_a_projection() -> None:
    strategy: Strategy = emd(12, 3, hidden=16, student_hidden=8, project=True)
    strategy(batch_of(strategy)).backward()
    (weight,) = strategy.parameters()
    assert weight.shape == (16, 8)
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_a_resumed_run_goes_on_with_its_weights(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep_strategies(monkeypatch)
    require_same_after_resume(world, tmp_path, strategy="emd", emd_weights="softmax")
    whole, stopped, resumed = (strategy.state_dict() for strategy in made)
    assert torch.equal(whole["weight_N"], resumed["weight_N"])
    assert torch.equal(whole["weight_M"], resumed["weight_M"])
    assert not torch.equal(whole["weight_N"], stopped["weight_N"])
