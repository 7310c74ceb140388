"""pytest tests/pipeline/test_output_losses.py

What the outputs learn, beside the terms of test_losses.py. Shapes: B rows, K classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.losses import (
    Objective,
    annealing_share,
    distillation_loss,
    hard_label_loss,
    logit_loss,
    uncertain_distillation_loss,
)
from tests.pipeline.strategies.matched import fit, softmax
from tests.support.tiny import World

TEACHER = torch.tensor([[2.0, -1.0], [0.5, 1.5]])
STUDENT = torch.tensor([[1.0, 0.0], [-0.5, 0.5]])
LABELS = torch.tensor([0, 1])
OBJECTIVE = Objective(alpha=0.7, beta=0.0, temperature=10.0, reduction="pkd2019")


def random_logits(classes: int, rows: int = 9) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(classes)
    student, teacher = torch.randn(2, rows, classes, generator=draw).unbind()
    return student, teacher


def kl_by_hand(student: Tensor, teacher: Tensor, temperature: float) -> np.ndarray:
    """(B,) in numpy."""
    p_t = softmax(teacher.double().numpy() / temperature)
    p_s = softmax(student.double().numpy() / temperature)
    return np.asarray((p_t * (np.log(p_t) - np.log(p_s))).sum(-1))


def uncertainty_by_hand(student: Tensor) -> np.ndarray:
    """(B,) entropy over log K."""
    p = softmax(student.double().numpy())
    return np.asarray(-(p * np.log(p)).sum(-1) / math.log(p.shape[-1]))


# mse


def test_worked_squared_error_of_logits() -> None:
    """Differences 1, -1 and 1, 1: mean 1, summed over classes 2."""
    assert float(logit_loss(STUDENT, TEACHER)) == pytest.approx(1.0)
    assert float(logit_loss(STUDENT, TEACHER, "paper")) == pytest.approx(2.0)
    half = float(logit_loss(STUDENT, TEACHER, share=0.5))
    assert half == pytest.approx((0.0 + 0.25 + 0.75**2 + 0.25**2) / 4)


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
def test_squared_error_equals_the_second_formula(classes: int) -> None:
    student, teacher = random_logits(classes)
    gap = student.double().numpy() - 0.3 * teacher.double().numpy()
    assert float(logit_loss(student, teacher, share=0.3)) == pytest.approx((gap**2).mean())
    summed = (gap**2).sum(-1).mean()
    assert float(logit_loss(student, teacher, "paper", 0.3)) == pytest.approx(summed)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("reduction", ["pkd2019", "paper"])
def test_at_a_large_temperature_kl_is_squared_error_over_twice_the_classes(
    classes: int, reduction: str
) -> None:
    """T^2 KL -> |s - t|^2 / 2K of centred logits; of float64, since 1e6 * KL loses six digits."""
    student, teacher = (each - each.mean(-1, keepdim=True) for each in random_logits(classes))
    kl = kl_by_hand(student, teacher, 1000.0).mean() * 1000.0**2
    kl = kl if reduction == "paper" else kl / classes
    limit = float(logit_loss(student, teacher, reduction)) / (2 * classes)  # type: ignore[arg-type]
    assert kl == pytest.approx(limit, rel=5e-3)
    ours = float(distillation_loss(student, teacher, 50.0, reduction))  # type: ignore[arg-type]
    assert ours == pytest.approx(limit, rel=5e-2)


def test_only_squared_error_sees_a_shift_of_all_logits() -> None:
    shifted = STUDENT + 3.0
    kl = [float(distillation_loss(each, TEACHER, 5.0)) for each in (STUDENT, shifted)]
    assert kl[0] == pytest.approx(kl[1], rel=1e-4)
    assert float(logit_loss(shifted, TEACHER)) > float(logit_loss(STUDENT, TEACHER)) + 5


# annealed


def test_shares_by_epoch() -> None:
    """Of 4 epochs the first 2 are stage one: T = 2, 1, so Phi = 1 - (T - 1) / 2."""
    assert [annealing_share(epoch, 4) for epoch in range(1, 5)] == [0.5, 1.0, None, None]
    odd = [annealing_share(epoch, 7) for epoch in range(1, 8)]
    assert odd == [0.25, 0.5, 0.75, 1.0, None, None, None]
    assert annealing_share(1, 1) == 1.0
    for epochs in range(1, 30):
        stage_one = math.ceil(epochs / 2)
        for epoch in range(1, stage_one + 1):
            temperature = stage_one - epoch + 1
            share = 1 - (temperature - 1) / stage_one
            assert annealing_share(epoch, epochs) == pytest.approx(share)
        assert annealing_share(stage_one + 1, epochs) is None


def test_stage_one_has_logits_alone_and_stage_two_labels_alone() -> None:
    annealed = replace(OBJECTIVE, kd_loss="annealed", epochs=4)
    by_epoch = [annealed.output_terms(STUDENT, LABELS, TEACHER, epoch) for epoch in range(1, 5)]
    assert [list(terms) for terms in by_epoch] == [["kd"], ["kd"], ["ce"], ["ce"]]
    half = ((STUDENT - 0.5 * TEACHER) ** 2).mean()
    assert float(by_epoch[0]["kd"]) == pytest.approx(float(half))
    assert float(by_epoch[1]["kd"]) == pytest.approx(1.0)
    ce = float(hard_label_loss(STUDENT, LABELS))
    assert float(by_epoch[2]["ce"]) == float(by_epoch[3]["ce"]) == pytest.approx(ce)


def test_alpha_is_of_no_account_in_annealing_but_for_labels_alone() -> None:
    one, other = (
        replace(OBJECTIVE, kd_loss="annealed", epochs=4, alpha=alpha).output_terms(
            STUDENT, LABELS, TEACHER, 1
        )
        for alpha in (0.1, 0.9)
    )
    assert float(one["kd"]) == float(other["kd"])
    finetune = replace(OBJECTIVE, kd_loss="annealed", epochs=4, alpha=0.0)
    assert list(finetune.output_terms(STUDENT, LABELS, None, 1)) == ["ce"]


def test_a_run_is_annealed_by_its_epochs(world: World, tmp_path: Path) -> None:
    record = fit(world, tmp_path / "s", strategy="kd", kd_loss="annealed", epochs=3)
    terms = [set(epoch["losses"]) - {"total"} for epoch in record["history"]]
    assert terms == [{"kd"}, {"kd"}, {"ce"}]


# uncertainty


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_uncertainty_equals_the_second_formula(classes: int, temperature: float) -> None:
    student, teacher = random_logits(classes)
    certain = 1 - uncertainty_by_hand(student)
    by_hand = (certain * kl_by_hand(student, teacher, temperature)).mean() * temperature**2
    found = uncertain_distillation_loss(student, teacher, temperature, "paper")
    assert float(found) == pytest.approx(by_hand, rel=1e-4)
    mean = uncertain_distillation_loss(student, teacher, temperature)
    assert float(mean) == pytest.approx(by_hand / classes, rel=1e-4)


def test_a_student_that_is_sure_listens_and_one_that_is_not_does_not() -> None:
    sure, unsure = torch.tensor([[60.0, -60.0]]), torch.zeros(1, 2)
    whole = float(distillation_loss(sure, TEACHER[:1], 10.0))
    assert float(uncertain_distillation_loss(sure, TEACHER[:1], 10.0)) == pytest.approx(whole)
    assert float(uncertain_distillation_loss(unsure, TEACHER[:1], 10.0)) == pytest.approx(
        0.0, abs=1e-6
    )
    assert float(distillation_loss(unsure, TEACHER[:1], 10.0)) > 0.1


def test_certainty_has_no_gradient_of_its_own() -> None:
    """The gradient is that of KL, each row times its 1 - u."""
    student, teacher = random_logits(3)
    student.requires_grad_()
    (found,) = torch.autograd.grad(uncertain_distillation_loss(student, teacher, 2.0), student)
    (plain,) = torch.autograd.grad(distillation_loss(student, teacher, 2.0), student)
    certain = torch.from_numpy(1 - uncertainty_by_hand(student.detach())).float()
    torch.testing.assert_close(found, certain[:, None] * plain, rtol=1e-4, atol=1e-7)


# which of them a run has


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("kl", distillation_loss(STUDENT, TEACHER, 10.0)),
        ("mse", logit_loss(STUDENT, TEACHER)),
        ("uncertainty", uncertain_distillation_loss(STUDENT, TEACHER, 10.0)),
    ],
)
def test_alpha_weighs_what_is_chosen(kind: str, expected: Tensor) -> None:
    terms = replace(OBJECTIVE, kd_loss=kind).output_terms(STUDENT, LABELS, TEACHER)
    assert float(terms["kd"]) == pytest.approx(0.7 * float(expected))
    assert float(terms["ce"]) == pytest.approx(0.3 * 0.313262, abs=1e-6)


@pytest.mark.parametrize("kind", ["kl", "mse", "uncertainty"])
def test_of_a_regression_all_are_squared_error(kind: str) -> None:
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    terms = replace(OBJECTIVE, kd_loss=kind).output_terms(student, torch.zeros(2), teacher)
    assert float(terms["kd"]) == pytest.approx(0.7 * 2.5)


@pytest.mark.parametrize("kind", ["kl", "mse", "annealed", "uncertainty"])
@pytest.mark.parametrize("reduction", ["pkd2019", "paper"])
def test_gradients_reach_the_student_only(kind: str, reduction: str) -> None:
    student, teacher = random_logits(3)
    student.requires_grad_()
    objective = replace(OBJECTIVE, kd_loss=kind, reduction=reduction, epochs=2)  # type: ignore[arg-type]
    terms = objective.output_terms(student, torch.zeros(9, dtype=torch.int64), teacher, epoch=1)
    terms["kd"].backward()
    assert student.grad is not None
    assert student.grad.abs().max() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("kind", ["kl", "mse", "annealed", "uncertainty"])
def test_half_precision_logits_give_a_float32_loss(kind: str) -> None:
    objective = replace(OBJECTIVE, kd_loss=kind)
    terms = objective.output_terms(STUDENT.bfloat16(), LABELS, TEACHER.half())
    exact = objective.output_terms(STUDENT, LABELS, TEACHER)
    assert terms["kd"].dtype == torch.float32
    assert float(terms["kd"]) == pytest.approx(float(exact["kd"]), rel=1e-2)


# label smoothing


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_label_smoothing_equals_the_second_formula(classes: int, epsilon: float) -> None:
    logits, _ = random_logits(classes)
    labels = torch.arange(9) % classes
    targets = np.full((9, classes), epsilon / classes)
    targets[np.arange(9), labels.numpy()] += 1 - epsilon
    by_hand = -(targets * np.log(softmax(logits.double().numpy()))).sum(-1).mean()
    assert float(hard_label_loss(logits, labels, epsilon)) == pytest.approx(by_hand, rel=1e-5)


def test_worked_label_smoothing_and_rows_without_a_label() -> None:
    """CE is log(1 + e^-1) = 0.313262 in both rows; epsilon / 2 of it moves to 1.313262."""
    logits = torch.cat([STUDENT, torch.tensor([[9.0, -9.0]])])
    labels = torch.tensor([0, 1, -100])
    found = float(hard_label_loss(logits, labels, 0.2))
    assert found == pytest.approx(0.9 * 0.313262 + 0.1 * 1.313262, abs=1e-6)
    terms = replace(OBJECTIVE, label_smoothing=0.2).output_terms(logits, labels, logits)
    assert float(terms["ce"]) == pytest.approx(0.3 * found)


def test_numbers_are_not_smoothed() -> None:
    logits, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert float(hard_label_loss(logits, labels, 0.5)) == pytest.approx(2.5)
