"""pytest tests/pipeline/strategies/test_alp.py

Shapes: B rows, N teacher layers, M student layers, H hidden size.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.params import StudentParams
from pipeline.strategies.alp import mixture
from pipeline.strategies.base import Matched, Strategy
from tests.pipeline.strategies.matched import arrays_of, batch_of, softmax
from tests.support.runs import strategy_for

LAYERS = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
STATE = torch.tensor([[[2.0, 1.0]]])


def alp(layers: int = 12, depth: int = 3, scale: bool = False, **more: int) -> Strategy:
    params = StudentParams(strategy="alp", student_layers=depth, alp_scale=scale, project=True)
    return strategy_for(params, teacher_layers=layers, **more)


def by_hand(student: np.ndarray, teacher: np.ndarray, scale: float) -> np.ndarray:
    """C_j, row by row and layer by layer."""
    result = np.zeros_like(student)
    for row, j in np.ndindex(*student.shape[:2]):
        scores = np.array([student[row, j] @ layer for layer in teacher[row]]) / scale
        result[row, j] = softmax(scores) @ teacher[row]
    return result


def test_worked_numbers() -> None:
    shares = torch.softmax(STATE[0] @ LAYERS[0].T, -1)[0].tolist()
    assert shares == pytest.approx([0.244728, 0.090031, 0.665241], abs=1e-6)
    mixed = mixture(STATE, LAYERS, scaled=False)
    assert mixed.flatten().tolist() == pytest.approx([0.909969, 0.755272], abs=1e-6)
    strategy = alp(3, 1, hidden=2)
    batch = Matched(STATE, LAYERS, torch.zeros(1), torch.zeros(1))
    assert strategy(batch).item() == pytest.approx(0.624029, abs=1e-6)


def test_worked_numbers_when_scaled() -> None:
    """Scores (2, 1, 3) / sqrt 2 have the shares 1 : e^-0.7071 : e^0.7071."""
    small, large = np.exp(-(0.5**0.5)), np.exp(0.5**0.5)
    total = 1 + small + large
    mixed = mixture(STATE, LAYERS, scaled=True).flatten().tolist()
    assert mixed == pytest.approx([(1 + large) / total, (small + large) / total], abs=1e-6)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize(("n", "m"), [(12, 3), (24, 6), (12, 1), (4, 4)])
def test_the_loss_equals_the_second_formula(n: int, m: int, scale: bool) -> None:
    strategy = alp(n, m, scale)
    assert strategy.teacher_layers == tuple(range(1, n + 1))
    batch = batch_of(strategy)
    student, teacher = arrays_of(batch)
    mixed = by_hand(student, teacher, 4.0 if scale else 1.0)  # the root of 16
    expected = ((student - mixed) ** 2).mean()
    assert strategy(batch).item() == pytest.approx(expected, rel=1e-5)


def test_without_scaling_wide_vectors_attend_to_one_layer() -> None:
    """Why `--alp-scale` exists: products of 768 dimensions are far apart."""
    student, teacher = torch.randn(50, 1, 768), torch.randn(50, 12, 768)
    scores = student @ teacher.transpose(1, 2)
    assert torch.softmax(scores, -1).amax(-1).median() > 0.99
    assert torch.softmax(scores / 768**0.5, -1).amax(-1).median() < 0.5


def test_the_gradient_is_that_of_the_formula_attention_included() -> None:
    student = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, 3, dtype=torch.float64)
    for scaled in (False, True):
        assert torch.autograd.gradcheck(lambda x, s=scaled: mixture(x, teacher, scaled=s), student)


def test_gradients_reach_the_student_and_its_projection() -> None:
    strategy = alp(12, 3, hidden=16, student_hidden=8)
    batch = batch_of(strategy)
    strategy(batch).backward()
    for tensor in (batch.student_BMH, *strategy.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0
    assert [tuple(each.shape) for each in strategy.parameters()] == [(16, 8)]
    assert batch.teacher_BLH.grad is None
