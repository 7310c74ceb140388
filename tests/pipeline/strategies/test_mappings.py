"""pytest tests/pipeline/strategies/test_mappings.py - against a second formula and by hand.

Shapes: B rows, N teacher layers, M student layers, H hidden size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import CacheMismatchError, ParamsError
from pipeline.layers import layer_map
from pipeline.losses import (
    annealing_share,
    hard_label_loss,
    logit_loss,
    uncertain_distillation_loss,
)
from pipeline.params import StudentParams
from pipeline.strategies import STRATEGIES
from pipeline.strategies.alp import mixture
from pipeline.strategies.base import Matched, Strategy
from pipeline.strategies.contrastive import TEMPERATURE, Contrastive, contrast
from pipeline.strategies.emd import EarthMover, attended, layer_costs, transport
from pipeline.strategies.rail import Rail
from pipeline.student.fit import fit_student
from pipeline.student.recipe import objective_of
from pipeline.student.targets import CachedTargets, controlled
from pipeline.training.loop import StepLog
from tests.pipeline.student.test_fit import fit
from tests.support.runs import strategy_for
from tests.support.tiny import STUDENT, World

COSTS = np.array([[0.1, 0.9], [0.4, 0.5], [0.8, 0.2]])  # 3 teacher layers, 2 student layers


def batch(rows: int = 5, n: int = 4, m: int = 2, hidden: int = 16, seed: int = 0) -> Matched:
    draw = torch.Generator().manual_seed(seed)
    return Matched(
        torch.randn(rows, m, hidden, generator=draw, requires_grad=True),
        torch.randn(rows, n, hidden, generator=draw),
        torch.arange(rows),
        torch.arange(rows) % 2,
    )


def of_layers(found: Matched, strategy: Strategy) -> Matched:
    """What the strategy would read of a batch of all teacher layers."""
    return found._replace(
        teacher_BLH=found.teacher_BLH[:, [n - 1 for n in strategy.teacher_layers]]
    )


def test_emd_by_hand() -> None:
    flow = transport(np.full(3, 1 / 3), np.full(2, 1 / 2), COSTS)
    assert (flow * COSTS).sum() == pytest.approx(0.25)
    np.testing.assert_allclose(flow.sum(1), 1 / 3)
    np.testing.assert_allclose(flow.sum(0), 1 / 2)
    moved = flow * COSTS
    np.testing.assert_allclose(moved.sum(1) * 3, [0.1, 0.45, 0.2])
    np.testing.assert_allclose(moved.sum(0) * 2, [0.2, 0.3])
    teacher, student = (np.full(3, 1 / 3), moved.sum(1)), (np.full(2, 1 / 2), moved.sum(0))
    for (weight, cost), kind, tau, expected in (
        (teacher, "l1", 1, [0.580645, 0.129032, 0.290323]),
        (student, "l1", 1, [0.6, 0.4]),
        (teacher, "softmax", 1, [0.974235, 0.002853, 0.022912]),
        (student, "softmax", 1, [0.697059, 0.302941]),
        (teacher, "softmax", 5, [0.56061, 0.174576, 0.264814]),
        (student, "softmax", 5, [0.54157, 0.45843]),
    ):
        np.testing.assert_allclose(attended(weight, cost, kind, tau), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_emd_equals_a_linear_program(seed: int) -> None:
    """scipy's solver on the same problem; the optimal flow may not be unique, its value is."""
    from scipy.optimize import linprog

    draw = np.random.default_rng(seed)
    n, m = 12, 3
    one, other, costs = draw.dirichlet(np.ones(n)), draw.dirichlet(np.ones(m)), draw.random((n, m))
    flow = transport(one, other, costs)
    rows = [np.kron(np.eye(n)[i], np.ones(m)) for i in range(n)]
    columns = [np.kron(np.ones(n), np.eye(m)[j]) for j in range(m)]
    found = linprog(costs.ravel(), A_eq=np.array(rows + columns), b_eq=np.r_[one, other])
    assert (flow * costs).sum() == pytest.approx(found.fun, rel=1e-6)


def test_costs_are_mean_squared_differences_of_layers() -> None:
    found = batch()
    costs = layer_costs(found.student_BMH, found.teacher_BLH).detach().numpy()
    for i in range(4):
        for j in range(2):
            gap = found.teacher_BLH[:, i] - found.student_BMH[:, j].detach()
            assert costs[i, j] == pytest.approx(float(gap.square().mean()), rel=1e-5)


def test_emd_moves_its_weights_in_training_alone_and_gradients_reach_the_student_only() -> None:
    strategy = strategy_for(replace(STUDENT, strategy="emd"))
    assert isinstance(strategy, EarthMover)
    found = batch()
    strategy.eval()
    before = strategy(found).item()
    assert torch.equal(strategy.weight_N, torch.full((4,), 0.25, dtype=torch.float64))
    strategy.train()
    loss = strategy(found)
    assert loss.item() == pytest.approx(before)
    loss.backward()
    assert found.student_BMH.grad is not None
    assert float(strategy.weight_N.sum()) == pytest.approx(1)
    assert strategy.weight_N.std() > 0.01
    assert {"weight_N", "weight_M"} <= set(strategy.state_dict())
    fixed = strategy_for(replace(STUDENT, strategy="emd", emd_weights="fixed"))
    fixed(batch())
    assert torch.equal(fixed.state_dict()["weight_M"], torch.full((2,), 0.5, dtype=torch.float64))


def test_alp_by_hand() -> None:
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    student = torch.tensor([[[2.0, 1.0]]])
    mixed = mixture(student, teacher, scaled=False)
    assert mixed[0, 0].tolist() == pytest.approx([0.909969, 0.755272], abs=1e-6)
    assert float((student - mixed).square().mean()) == pytest.approx(0.624029, abs=1e-6)
    scores = np.array([2.0, 1.0, 3.0]) / 2**0.5
    weights = np.exp(scores) / np.exp(scores).sum()
    scaled = mixture(student, teacher, scaled=True)[0, 0]
    assert scaled.tolist() == pytest.approx([weights[0] + weights[2], weights[1] + weights[2]])


@pytest.mark.parametrize("name", ["rail", "rail-concat"])
def test_rail_draws_by_epoch_and_equals_numpy(name: str) -> None:
    strategy = strategy_for(replace(STUDENT, strategy=name, match_size=3))
    assert isinstance(strategy, Rail)
    draws = []
    for epoch in range(1, 40):
        strategy.start_epoch(epoch)
        assert strategy.drawn == sorted(set(strategy.drawn))
        draws.append(tuple(strategy.drawn))
    assert len(set(draws)) == 6  # every pair of 4 layers, the last one included
    strategy.start_epoch(7)
    assert tuple(strategy.drawn) == draws[6]
    found = batch()
    teacher = found.teacher_BLH[:, [n - 1 for n in strategy.drawn]].numpy()
    student = found.student_BMH.detach().numpy()
    maps = {k: v.detach().numpy() for k, v in strategy.maps.state_dict().items()}
    if name == "rail":
        pairs = [(student[:, j], teacher[:, j], f"{j}.weight") for j in range(2)]
    else:
        pairs = [(student.reshape(5, -1), teacher.reshape(5, -1), "0.weight")]
    total = 0.0
    for of_student, of_teacher, key in pairs:
        one, other = of_student @ maps[f"student.{key}"].T, of_teacher @ maps[f"teacher.{key}"].T
        one = one / np.linalg.norm(one, axis=-1, keepdims=True)
        other = other / np.linalg.norm(other, axis=-1, keepdims=True)
        total += np.linalg.norm(one - other, axis=-1).mean()
    assert strategy(found).item() == pytest.approx(total / len(pairs), rel=1e-4)


def test_a_contrast_is_infonce_over_rows_of_other_classes() -> None:
    draw = np.random.default_rng(0)

    def units(*shape: int) -> np.ndarray:
        values = draw.normal(size=shape)
        return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True))

    student, teacher, negatives = units(3, 6), units(3, 6), units(3, 4, 6)
    positive = np.exp((student * teacher).sum(-1) / TEMPERATURE)
    others = np.exp(np.einsum("bu,bku->bk", student, negatives) / TEMPERATURE).sum(-1)
    tensors = [torch.from_numpy(each) for each in (student, teacher, negatives)]
    np.testing.assert_allclose(contrast(*tensors), -np.log(positive / (positive + others)))


def test_negatives_were_seen_and_are_of_other_classes() -> None:
    strategy = strategy_for(replace(STUDENT, strategy="contrastive", negatives=64, match_size=3))
    assert isinstance(strategy, Contrastive)
    strategy.train()
    found = of_layers(batch(rows=6), strategy)
    assert strategy(found).item() == 0.0  # nothing was seen yet
    assert strategy.label_N[:6].tolist() == [0, 1, 0, 1, 0, 1]
    assert (strategy.label_N[6:] == -100).all()
    drawn, there = strategy._negatives(torch.tensor([0, 1, -100]))
    assert there.tolist() == [True, True, False]
    assert set(drawn[0].tolist()) <= {1, 3, 5}
    assert set(drawn[1].tolist()) <= {0, 2, 4}
    bank = strategy.bank_NU.clone()
    loss = strategy(found)
    assert loss.item() > 0
    loss.backward()
    assert found.student_BMH.grad is not None
    assert not torch.equal(strategy.bank_NU[:6], bank[:6])
    assert torch.equal(strategy.bank_NU[6:], bank[6:])
    with pytest.raises(ParamsError, match="needs classes; this task is a regression"):
        strategy_for(replace(STUDENT, strategy="contrastive"), classes=1)


@pytest.mark.parametrize(("n", "m"), [(12, 6), (12, 3), (24, 6), (24, 3), (4, 4)])
def test_controls_are_made_of_the_layers_of_skip(n: int, m: int) -> None:
    skip = layer_map("skip", n, m)
    assert layer_map("reverse", n, m) == skip[::-1]
    assert layer_map("all-to-one", n, m) == (skip[-1],) * (m - 1)
    shuffled = layer_map("shuffled", n, m, seed=3)
    assert sorted(shuffled) == list(skip)
    assert shuffled != skip
    assert shuffled == layer_map("shuffled", n, m, seed=3)


def test_the_last_student_layer_can_learn_an_intermediate_one() -> None:
    """MUD, M = 6, top 10: layers 2, 3, 5, 7, 8, 10 (its list begins with the embeddings)."""
    assert layer_map("skip", 12, 6, match_top=10) == (2, 3, 5, 7, 8, 10)
    assert layer_map("skip", 12, 6, match_top=8) == (1, 3, 4, 5, 7, 8)
    assert layer_map("skip", 12, 4, match_top=10) == (3, 5, 8, 10)  # 2.5 is rounded up here
    assert layer_map("last", 12, 3, match_top=8) == (6, 7, 8)
    with pytest.raises(ParamsError, match=r"--match-top 13: the teacher has layers 1\.\.12"):
        layer_map("skip", 12, 3, match_top=13)
    with pytest.raises(ParamsError, match="leave it out beside a list"):
        layer_map("2,4", 12, 3, match_top=8)


@pytest.mark.parametrize("name", [*STRATEGIES, "finetune", "kd", "1"])
@pytest.mark.parametrize(("n", "m"), [(4, 2), (12, 2), (24, 2)])
def test_every_strategy_declares_the_layers_that_it_reads(name: str, n: int, m: int) -> None:
    params = StudentParams(strategy=name, student_layers=m, match_size=3, negatives=4)
    strategy = strategy_for(params, teacher_layers=n)
    assert all(1 <= layer <= n for layer in strategy.teacher_layers)
    if strategy.teacher_layers:
        loss = strategy(of_layers(batch(n=n, m=m), strategy))
        assert loss.dtype == torch.float32
        assert loss.ndim == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emd", "rail", "alp", "contrastive", "reverse"])
def test_every_strategy_trains_a_student_from_the_cache(
    world: World, tmp_path: Path, name: str
) -> None:
    record = fit(world, tmp_path / "s", strategy=name, epochs=1)
    assert record["history"][0]["losses"]["pt"] >= 0
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "pt", "total"}


def test_a_resumed_run_of_a_strategy_with_state_is_the_run_itself(
    world: World, tmp_path: Path
) -> None:
    """emd's weights, rail's maps and draws, the bank of contrastive: all are in the checkpoint."""
    from safetensors.torch import load_file

    for name in ("emd", "rail", "contrastive"):
        options: dict[str, Any] = {"strategy": name, "epochs": 3, "negatives": 8, "match_size": 4}
        whole, cut = tmp_path / f"{name}-whole", tmp_path / f"{name}-cut"
        fit(world, whole, **options)

        def stop(entry: StepLog) -> None:
            if entry.epoch == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_student(
                cache_path=world.cache16, out=cut, sources={}, on_step=stop,
                params=replace(STUDENT, init=str(world.encoder), **options),
            )  # fmt: skip
        fit(world, cut, resume=True, **options)
        one, other = (load_file(each / "model.safetensors") for each in (whole, cut))
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_a_strategy_of_ones_own_is_a_class_named_on_the_command_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_strategy.py").write_text(
        "from pipeline.strategies.base import Strategy\n\n\n"
        "class Last(Strategy):\n"
        "    def __init__(self, shapes, params):\n"
        "        super().__init__(shapes, params)\n"
        "        self.teacher_layers = (shapes.teacher_layers,)\n\n"
        "    def forward(self, batch):\n"
        "        gap = batch.student_BMH[:, -1] - batch.teacher_BLH[:, 0].float()\n"
        "        return gap.square().mean()\n\n\n"
        "class NotOne:\n"
        "    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    record = fit(world, tmp_path / "s", strategy="own_strategy:Last", epochs=1)
    assert record["teacher_layers_read"] == [4]
    for name, message in (
        ("own_strategy:NotOne", "not a subclass of pipeline.strategies.base.Strategy"),
        ("own_strategy:Gone", "has no attribute 'Gone'"),
        ("no_such_module:Mine", "No module named 'no_such_module'"),
        ("skpi", "Did you mean `skip`"),
    ):
        with pytest.raises(ParamsError, match=message):
            strategy_for(replace(STUDENT, strategy=name))


def test_a_cache_without_a_layer_refuses_a_method_that_reads_it(
    world: World, tmp_path: Path
) -> None:
    from tests.pipeline.caching.test_build import build

    cache = build(world, tmp_path / "c.zarr", layers="2,4")
    with pytest.raises(CacheMismatchError, match="emd needs layers 1,2,3,4; the cache lacks 1,3"):
        fit(world, tmp_path / "s", strategy="emd", cache=cache)


def test_annealing_shares_rise_and_stage_two_has_labels_alone() -> None:
    assert [annealing_share(epoch, 6) for epoch in range(1, 7)] == [
        pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0, None, None, None,
    ]  # fmt: skip
    strategy = strategy_for(replace(STUDENT, strategy="kd"))
    objective = objective_of(replace(STUDENT, kd_loss="annealed", epochs=6), strategy)
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, -3.0]])
    labels = torch.tensor([0])
    first = objective.output_terms(student, labels, teacher, 1)
    assert {k: float(v) for k, v in first.items()} == {"kd": pytest.approx((0.0 + 1.0) / 2)}
    assert list(objective.output_terms(student, labels, teacher, 4)) == ["ce"]


def test_uncertainty_by_a_second_formula() -> None:
    draw = np.random.default_rng(0)
    student, teacher = draw.normal(size=(7, 3)), draw.normal(size=(7, 3))

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(values) / np.exp(values).sum(-1, keepdims=True))

    p = softmax(student)
    uncertain = -(p * np.log(p)).sum(-1) / np.log(3)
    soft_t, soft_s = softmax(teacher / 4), softmax(student / 4)
    divergence = (soft_t * np.log(soft_t / soft_s)).sum(-1)
    expected = ((1 - uncertain) * divergence).mean() * 16
    tensors = torch.from_numpy(student), torch.from_numpy(teacher)
    found = uncertain_distillation_loss(*tensors, 4.0, "paper")
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(uncertain_distillation_loss(*tensors, 4.0)) == pytest.approx(
        expected / 3, rel=1e-5
    )


def test_logit_loss_and_label_smoothing_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, -1.0]])
    assert float(logit_loss(student, teacher)) == 1.0
    assert float(logit_loss(student, teacher, "paper")) == 2.0
    logs = np.log(np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum())
    expected = -(0.9 * logs[0] + 0.1 * logs.mean())
    found = hard_label_loss(student, torch.tensor([0]), 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_controls_of_the_teachers_outputs() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 3.0], [1.0, 5.0]])
    labels = torch.tensor([0, 0, 1, -100])  # the last one counts as of class 1, by its logits
    targets = CachedTargets(logits, torch.zeros(4, 0, 2))
    assert controlled(targets, labels, "own", 0).logits_NK is targets.logits_NK
    mean = controlled(targets, labels, "class-mean", 0).logits_NK.softmax(-1)
    first = (logits[0].softmax(-1) + logits[1].softmax(-1)) / 2
    torch.testing.assert_close(mean[0], first)
    torch.testing.assert_close(mean[1], first)
    torch.testing.assert_close(mean[3], (logits[2].softmax(-1) + logits[3].softmax(-1)) / 2)
    permuted = {
        tuple(map(tuple, controlled(targets, labels, "permuted", seed).logits_NK.tolist()))
        for seed in range(20)
    }
    # of two rows in each class every one gets the other's
    assert permuted == {((0.0, 0.0), (2.0, 0.0), (1.0, 5.0), (0.0, 3.0))}
    with pytest.raises(ParamsError, match="needs classes"):
        controlled(CachedTargets(torch.zeros(3, 1), torch.zeros(3, 0, 2)), labels, "permuted", 0)
