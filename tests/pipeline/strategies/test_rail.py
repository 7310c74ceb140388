"""pytest tests/pipeline/strategies/test_rail.py"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline.errors import ParamsError
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched
from pipeline.strategies.rail import Rail, unit_distance
from tests.pipeline.strategies.matched import (
    arrays_of,
    batch_of,
    fit,
    keep_strategies,
    require_same_after_resume,
    unit,
)
from tests.support.runs import strategy_for
from tests.support.tiny import World


def rail(layers: int = 12, depth: int = 3, name: str = "rail", **changes: object) -> Rail:
    more = {key: changes.pop(key) for key in ("hidden", "student_hidden") if key in changes}
    params = StudentParams(strategy=name, student_layers=depth, match_size=5, **changes)  # type: ignore[arg-type]
    strategy = strategy_for(params, teacher_layers=layers, **more)  # type: ignore[arg-type]
    assert isinstance(strategy, Rail)
    return strategy


def weight_of(layer: torch.nn.Module) -> np.ndarray:
    """Its only parameter, float64."""
    (weight,) = layer.parameters()
    return np.asarray(weight.detach().double().numpy())


def draws(strategy: Rail, epochs: int) -> list[list[int]]:
    result = []
    for epoch in range(1, epochs + 1):
        strategy.start_epoch(epoch)
        result.append(strategy.drawn)
    return result


@pytest.mark.parametrize(("n", "m"), [(12, 3), (24, 6), (12, 1), (4, 2)])
def test_each_epoch_draws_its_own_layers_in_order(n: int, m: int) -> None:
    strategy = rail(n, m)
    assert strategy.teacher_layers == tuple(range(1, n + 1))
    found = draws(strategy, 300)
    for drawn in found:
        assert drawn == sorted(set(drawn))
        assert len(drawn) == m
        assert set(drawn) <= set(range(1, n + 1))
    times = Counter(layer for drawn in found for layer in drawn)
    expected, spread = 300 * m / n, (300 * (m / n) * (1 - m / n)) ** 0.5
    assert set(times) == set(range(1, n + 1)), "the last layer too"
    assert all(abs(count - expected) < 4 * spread for count in times.values())
    assert len({tuple(drawn) for drawn in found}) > 1


def test_a_draw_depends_on_seed_and_epoch_alone() -> None:
    strategy = rail()
    found = draws(strategy, 5)
    strategy.start_epoch(2)
    assert strategy.drawn == found[1]
    assert draws(rail(name="rail-concat"), 5) == found
    assert draws(rail(seed=1), 5) != found
    assert found == [[3, 4, 9], [3, 5, 8], [1, 9, 12], [7, 10, 11], [8, 11, 12]], "on every machine"


def test_as_many_student_layers_as_teacher_layers() -> None:
    assert draws(rail(4, 4), 3) == [[1, 2, 3, 4]] * 3


@pytest.mark.parametrize("name", ["rail", "rail-concat"])
def test_a_student_deeper_than_its_teacher_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match=rf"{name}: a student of 5 layers .* teacher's 4; lower"):
        rail(4, 5, name)


@pytest.mark.parametrize(("n", "m"), [(12, 3), (24, 6), (12, 1), (4, 4)])
def test_linear_equals_the_second_formula(n: int, m: int) -> None:
    strategy = rail(n, m)
    strategy.start_epoch(7)
    batch = batch_of(strategy)
    student, teacher = arrays_of(batch)
    distances = []
    for j, (of_student, of_teacher) in enumerate(strategy._pairs()):
        one = unit(student[:, j] @ weight_of(of_student).T)
        other = unit(teacher[:, strategy.drawn[j] - 1] @ weight_of(of_teacher).T)
        distances.append(np.linalg.norm(one - other, axis=-1).mean())
    assert strategy(batch).item() == pytest.approx(np.mean(distances), rel=1e-5)
    assert len(distances) == m


@pytest.mark.parametrize(("n", "m"), [(12, 3), (24, 6), (12, 1), (4, 4)])
def test_concatenated_equals_the_second_formula(n: int, m: int) -> None:
    strategy = rail(n, m, "rail-concat")
    strategy.start_epoch(7)
    batch = batch_of(strategy)
    student, teacher = arrays_of(batch)
    one, other = (weight_of(each) for each in strategy._pairs()[0])
    drawn = np.concatenate([teacher[:, layer - 1] for layer in strategy.drawn], axis=-1)
    gap = unit(student.reshape(len(student), -1) @ one.T) - unit(drawn @ other.T)
    by_hand = np.linalg.norm(gap, axis=-1).mean()
    assert strategy(batch).item() == pytest.approx(by_hand, rel=1e-5)


def test_worked_distance() -> None:
    """(3, 4) and (4, 3): 0.6, 0.8 against 0.8, 0.6; at right angles the root of 2."""
    one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert float(unit_distance(one, other)) == pytest.approx(0.08**0.5)
    assert float(unit_distance(one, torch.tensor([[-4.0, 3.0]]))) == pytest.approx(2**0.5)


def test_vectors_that_agree_have_a_finite_gradient() -> None:
    one = torch.randn(3, 4, requires_grad=True)
    unit_distance(one, one.detach().clone()).backward()
    assert one.grad is not None
    assert one.grad.isfinite().all()


@pytest.mark.parametrize("name", ["rail", "rail-concat"])
def test_gradients_reach_the_student_and_the_maps(name: str) -> None:
    strategy = rail(12, 3, name, hidden=16, student_hidden=8, project=True)
    batch: Matched = batch_of(strategy)
    strategy(batch).backward()
    for tensor in (batch.student_BMH, *strategy.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
    assert batch.teacher_BLH.grad is None


@pytest.mark.parametrize("name", ["rail", "rail-concat"])
def test_a_run_trains_its_maps_resumes_them_and_saves_none(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = keep_strategies(monkeypatch)
    torch.manual_seed(0)  # as `settle` does before it makes a strategy
    start = strategy_for(StudentParams(strategy=name, student_layers=2)).state_dict()
    require_same_after_resume(world, tmp_path, strategy=name)
    whole, stopped, resumed = (strategy.state_dict() for strategy in made)
    for key, weight in start.items():
        assert torch.equal(whole[key], resumed[key])
        assert not torch.equal(whole[key], stopped[key])
        assert (whole[key] - weight).abs().max() > 1e-3, "one of the maps was not trained"
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as saved:
        assert all(key.startswith(("bert.", "classifier.")) for key in saved.keys())  # noqa: SIM118


def test_the_loop_draws_by_the_epoch(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = keep_strategies(monkeypatch)
    fit(world, tmp_path / "s", strategy="rail", epochs=3, seed=2)
    (strategy,) = made
    assert isinstance(strategy, Rail)
    last = list(strategy.drawn)
    assert draws(strategy, 3)[-1] == last
    assert draws(strategy, 2)[-1] != last, "so that this test can tell epochs apart"
