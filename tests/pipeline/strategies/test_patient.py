"""pytest tests/pipeline/strategies/test_patient.py"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ParamsError
from pipeline.models.sharing import passes
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched
from pipeline.strategies.patient import Patient
from tests.pipeline.strategies.matched import arrays_of, batch_of, unit
from tests.support.runs import strategy_for

NAMES = ("skip", "last", "reverse", "shuffled", "all-to-one")


def patient(name: str, layers: int = 12, depth: int = 3, **changes: Any) -> Patient:
    more = {key: changes.pop(key) for key in ("hidden", "student_hidden") if key in changes}
    params = StudentParams(strategy=name, student_layers=depth, **changes)
    strategy = strategy_for(params, teacher_layers=layers, **more)
    assert isinstance(strategy, Patient)
    return strategy


def by_hand(strategy: Patient, batch: Matched, *, normalize: bool, paper: bool) -> float:
    """Eq. 7, pair by pair."""
    student, teacher = arrays_of(batch)
    total = 0.0
    for place, (j, _) in enumerate(strategy.pairs):
        s, t = student[:, j - 1], teacher[:, place]
        gap = unit(s) - unit(t) if normalize else s - t
        total += float((gap**2).sum(-1).mean())
    return total if paper else total / (len(strategy.pairs) * student.shape[-1])


@pytest.mark.parametrize(
    ("name", "layers", "depth", "pairs"),
    [
        ("skip", 12, 3, ((1, 4), (2, 8))),
        ("last", 12, 3, ((1, 10), (2, 11))),
        ("reverse", 12, 3, ((1, 8), (2, 4))),
        ("all-to-one", 12, 3, ((1, 8), (2, 8))),
        ("5,2", 12, 3, ((1, 5), (2, 2))),
        ("skip", 24, 6, ((1, 4), (2, 8), (3, 12), (4, 16), (5, 20))),
        ("skip", 4, 4, ((1, 1), (2, 2), (3, 3))),
        ("skip", 12, 1, ()),
    ],
)
def test_pairs(name: str, layers: int, depth: int, pairs: tuple[tuple[int, int], ...]) -> None:
    strategy = patient(name, layers, depth)
    assert strategy.pairs == pairs
    assert strategy.teacher_layers == tuple(teacher for _, teacher in pairs)


def test_match_top_gives_the_last_layer_a_teacher_too() -> None:
    assert patient("skip", 12, 6, match_top=10).pairs == (
        (1, 2), (2, 3), (3, 5), (4, 7), (5, 8), (6, 10)
    )  # fmt: skip
    assert patient("skip", 12, 1, match_top=10).pairs == ((1, 10),)


@pytest.mark.parametrize("reduction", ["pkd2019", "paper"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", [*NAMES, "7,3,11,1,9"])
def test_the_loss_equals_the_second_formula(name: str, normalize: bool, reduction: str) -> None:
    strategy = patient(name, 12, 6, normalize=normalize, reduction=reduction)
    batch = batch_of(strategy)
    expected = by_hand(strategy, batch, normalize=normalize, paper=reduction == "paper")
    assert strategy(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("layers", "depth"), [(24, 6), (24, 2), (12, 12), (2, 2)])
def test_other_depths(layers: int, depth: int) -> None:
    strategy = patient("skip", layers, depth)
    batch = batch_of(strategy)
    expected = by_hand(strategy, batch, normalize=True, paper=False)
    assert strategy(batch).item() == pytest.approx(expected, rel=1e-5)


def test_controls_read_the_layers_of_skip_in_another_order() -> None:
    skip, reverse, shuffled = (patient(name, 12, 6) for name in ("skip", "reverse", "shuffled"))
    assert sorted(reverse.teacher_layers) == sorted(shuffled.teacher_layers)
    assert sorted(reverse.teacher_layers) == list(skip.teacher_layers)
    orders = [each.teacher_layers for each in (skip, shuffled, reverse)]
    assert all(one != other for one, other in pairwise(orders))
    seeds = {patient("shuffled", 12, 6, seed=seed).teacher_layers for seed in range(20)}
    assert len(seeds) > 10


def test_gradients_reach_the_matched_layers_of_the_student_alone() -> None:
    strategy = patient("skip")
    batch = batch_of(strategy)
    strategy(batch).backward()
    assert batch.student_BMH.grad is not None
    largest = batch.student_BMH.grad.abs().amax((0, 2))
    assert largest[:2].min() > 0
    assert largest[2] == 0, "the last layer is the logits' own"
    assert batch.teacher_BLH.grad is None
    assert not list(strategy.parameters())


def test_a_narrower_student_learns_one_projection() -> None:
    strategy = patient("skip", project=True, student_hidden=8)
    batch = batch_of(strategy)
    loss = strategy(batch)
    (weight,) = strategy.parameters()
    student, teacher = arrays_of(batch)
    gap = unit(student[:, :2] @ weight.detach().double().numpy().T) - unit(teacher)
    assert loss.item() == pytest.approx(float(np.mean(gap**2)), rel=1e-5)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "depth", "changes", "words"),
    [
        ("skip", 13, {}, "a student of 13 layers is deeper than its teacher of 12"),
        ("4", 3, {}, "expected 2 teacher layers"),
        ("4,12", 3, {}, "taught by the logits"),
        ("4,8", 3, {"match_top": 10}, "leave it out beside a list"),
        ("skip", 3, {"match_top": 13}, r"--match-top 13: the teacher has layers 1\.\.12"),
        ("skip", 3, {"match_top": 2}, "--match-top 2: too low for a student of 3 layers"),
        ("4,8", 4, {}, "but the last of the student's 4 layers, found 2"),
    ],
)
def test_what_cannot_be(name: str, depth: int, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        patient(name, 12, depth, **changes)


@pytest.mark.parametrize(
    ("name", "layers", "depth", "words"),
    [
        (
            "skip",
            7,
            4,
            r"of 8 passes \(4 layers with --share sps\) is deeper than its teacher of 7",
        ),
        ("last", 2, 6, r"of 3 passes \(one in 3; 6 layers with --share sps\) is deeper .* of 2;"),
        (
            "2,4",
            12,
            3,
            r"expected 5 .* the student's 6 passes \(3 layers with --share sps\), found 2",
        ),
        (
            "rail",
            7,
            4,
            r"of 8 passes \(4 layers with --share sps\) cannot draw as many .* 7; lower",
        ),
    ],
)
def test_depth_is_counted_in_passes_where_layers_are_shared(
    name: str, layers: int, depth: int, words: str
) -> None:
    params = StudentParams(strategy=name, student_layers=depth, share="sps")
    with pytest.raises(ParamsError, match=words):
        strategy_for(params, teacher_layers=layers, student_layers=len(passes(depth, "sps")))


@pytest.mark.parametrize("name", ["skip", "last", "reverse", "shuffled", "all-to-one"])
def test_match_top_is_taken_by_what_makes_a_map(name: str) -> None:
    assert len(patient(name, 12, 3, match_top=9).pairs) == 3


@pytest.mark.parametrize(
    "name", ["finetune", "kd", "emd", "rail", "rail-concat", "alp", "contrastive", "own:Mine"]
)
def test_match_top_is_refused_where_nothing_heeds_it(name: str) -> None:
    words = f"--match-top 9: strategy {name} does not take it; skip, last, reverse, shuffled, all-"
    with pytest.raises(ParamsError, match=words):
        strategy_for(StudentParams(strategy=name, match_top=9), teacher_layers=12)
