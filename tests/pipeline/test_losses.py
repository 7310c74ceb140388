"""pytest tests/pipeline/test_losses.py

Shapes: B rows, K classes, L pairs, H hidden size.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.losses import Objective, distillation_loss, hard_label_loss, patience_loss

TEACHER = torch.tensor([[2.0, -1.0], [0.5, 1.5]])
STUDENT = torch.tensor([[1.0, 0.0], [-0.5, 0.5]])
LABELS = torch.tensor([0, 1])
OBJECTIVE = Objective(alpha=0.7, beta=0.0, temperature=10.0, reduction="pkd2019")


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def kl_by_hand(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> np.ndarray:
    """Second formula, in numpy: sum_c p_t (log p_t - log p_s) per row."""
    p_t = softmax(teacher.double().numpy() / temperature)
    p_s = softmax(student.double().numpy() / temperature)
    return np.asarray((p_t * (np.log(p_t) - np.log(p_s))).sum(-1))


def test_worked_numbers_of_the_logit_term() -> None:
    assert kl_by_hand(STUDENT, TEACHER, 10.0) == pytest.approx([0.004930, 0.0], abs=5e-7)
    mean = distillation_loss(STUDENT, TEACHER, 10.0)
    summed = distillation_loss(STUDENT, TEACHER, 10.0, reduction="paper")
    assert float(mean) == pytest.approx(0.123248, abs=1e-6)
    assert float(summed) == pytest.approx(0.246496, abs=1e-6)


def test_worked_number_of_the_whole_objective() -> None:
    terms = OBJECTIVE.output_terms(STUDENT, LABELS, TEACHER)
    assert float(hard_label_loss(STUDENT, LABELS)) == pytest.approx(0.313262, abs=1e-6)
    assert float(sum(terms.values())) == pytest.approx(0.180252, abs=1e-6)
    paper = replace(OBJECTIVE, reduction="paper").output_terms(STUDENT, LABELS, TEACHER)
    assert float(sum(paper.values())) == pytest.approx(0.266526, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_logit_term_equals_the_second_formula(temperature: float, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    student, teacher = torch.randn(2, 11, classes, generator=generator).unbind()
    by_hand = kl_by_hand(student, teacher, temperature).mean() * temperature**2
    found = distillation_loss(student, teacher, temperature, reduction="paper")
    assert float(found) == pytest.approx(by_hand, rel=1e-4)
    assert float(distillation_loss(student, teacher, temperature)) == pytest.approx(
        by_hand / classes, rel=1e-4
    )


def test_at_a_large_temperature_the_logit_term_is_squared_error_of_centred_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 9, 3, generator=generator).double().unbind()
    gap = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    limit = float(gap.square().sum(-1).mean()) / (2 * 3)
    found = kl_by_hand(student, teacher, 1000.0).mean() * 1000.0**2
    assert found == pytest.approx(limit, rel=2e-3)
    single = distillation_loss(student, teacher, 100.0, reduction="paper")
    assert float(single) == pytest.approx(limit, rel=2e-2)


def test_worked_numbers_of_the_patient_term() -> None:
    teacher = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    student = torch.tensor([[[4.0, 3.0], [0.0, 2.0]]])
    assert float(patience_loss(student, teacher, reduction="paper")) == pytest.approx(2.08)
    assert float(patience_loss(student, teacher)) == pytest.approx(0.52)
    assert float(patience_loss(student, teacher, normalize=False)) == pytest.approx(1.75)


def test_unit_vectors_at_right_angles() -> None:
    one, other = torch.eye(2).view(2, 1, 1, 2).unbind()
    assert float(patience_loss(one, other)) == pytest.approx(2.0 / 2)


def test_patient_term_equals_two_minus_two_cosines() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 6, 3, 8, generator=generator).unbind()
    cosine = torch.nn.functional.cosine_similarity(student, teacher, dim=-1)
    summed = float((2 - 2 * cosine).sum(1).mean())
    assert float(patience_loss(student, teacher, reduction="paper")) == pytest.approx(summed)
    assert float(patience_loss(student, teacher)) == pytest.approx(summed / (3 * 8))


def test_the_unit_of_beta_differs_by_pairs_times_hidden() -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 4, 5, 768, generator=generator).unbind()
    ratio = patience_loss(student, teacher, reduction="paper") / patience_loss(student, teacher)
    assert float(ratio) == pytest.approx(3840, rel=1e-5)


def test_terms_are_float32_from_half_precision_targets() -> None:
    student = torch.randn(4, 2, 8)
    teacher = torch.randn(4, 2, 8)
    half = patience_loss(student, teacher.half())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(patience_loss(student, teacher)), rel=1e-2)


def test_no_pair_no_patient_term() -> None:
    assert float(patience_loss(torch.zeros(3, 0, 8), torch.zeros(3, 0, 8))) == 0.0


def test_unlabelled_rows_do_not_count() -> None:
    logits = torch.tensor([[1.0, 0.0], [-0.5, 0.5], [9.0, -9.0]])
    labels = torch.tensor([0, 1, -100])
    assert float(hard_label_loss(logits, labels)) == pytest.approx(0.313262, abs=1e-6)
    assert float(hard_label_loss(logits, torch.full((3,), -100))) == 0.0


def test_regression_is_squared_error_over_the_labelled_rows() -> None:
    logits = torch.tensor([[1.0], [3.0], [7.0]], requires_grad=True)
    labels = torch.tensor([0.0, 1.0, math.nan])
    loss = hard_label_loss(logits, labels)
    assert loss.item() == pytest.approx((1.0 + 4.0) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([1.0, 2.0, 0.0])
    kd = distillation_loss(logits.detach(), torch.zeros(3, 1), 10.0)
    assert float(kd) == pytest.approx(59 / 3)


def test_gradients_reach_the_student_only() -> None:
    student = torch.randn(4, 2, requires_grad=True)
    teacher = torch.randn(4, 2)
    cls, target = torch.randn(4, 2, 8, requires_grad=True), torch.randn(4, 2, 8)
    objective = Objective(alpha=0.5, beta=3.0, temperature=2.0, reduction="paper")
    terms = objective.output_terms(student, torch.tensor([0, 1, 1, 0]), teacher)
    assert list(terms) == ["ce", "kd"]
    (terms["ce"] + terms["kd"] + patience_loss(cls, target)).backward()
    assert student.grad is not None
    assert cls.grad is not None
    assert teacher.grad is target.grad is None


def test_weights_of_zero_leave_their_term_out() -> None:
    labels_only = replace(OBJECTIVE, alpha=0.0)
    assert list(labels_only.output_terms(STUDENT, LABELS, None)) == ["ce"]
    logits_only = replace(OBJECTIVE, alpha=1.0)
    assert list(logits_only.output_terms(STUDENT, LABELS, TEACHER)) == ["kd"]
