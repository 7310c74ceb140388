"""pytest tests/pipeline/teacher/test_check.py"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import TeacherRefusedError
from pipeline.tasks import BUILT_IN
from pipeline.teacher.check import better_order, output_order, require_useful

LABELS = np.random.default_rng(0).integers(0, 3, 300)


def logits_with(accuracy: float, order: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """Logits whose argmax, read through `order`, is right for a share of the rows."""
    draw = np.random.default_rng(1)
    right = draw.random(len(LABELS)) < accuracy
    predicted = np.where(right, LABELS, (LABELS + draw.integers(1, 3, len(LABELS))) % 3)
    one_hot = np.eye(3, dtype=np.float32)[np.asarray(order)[predicted]]
    return np.asarray(one_hot)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (0, 2, 1)])
def test_a_permutation_is_found_and_named(order: tuple[int, ...]) -> None:
    found = better_order(logits_with(0.8, order), LABELS)
    assert found is not None
    names, as_is, best = found
    inverse = tuple(order.index(output) for output in range(3))
    assert names == inverse
    assert best > 0.75 > as_is
    task = BUILT_IN["mnli"]
    text = ",".join(task.label_names[k] for k in names)
    reordered = logits_with(0.8, order)[:, list(output_order(task, text) or ())]
    assert (reordered.argmax(-1) == LABELS).mean() == pytest.approx(best)


def test_a_good_teacher_and_a_hopeless_one_are_not_called_permuted() -> None:
    assert better_order(logits_with(0.8), LABELS) is None
    assert better_order(logits_with(1 / 3), LABELS) is None


def test_chance_is_the_majority_class() -> None:
    labels = np.asarray([0] * 7 + [1] * 3)
    constant = np.tile([[1.0, 0.0]], (10, 1))
    with pytest.raises(TeacherRefusedError, match=r"accuracy on validation is 0\.700, no better"):
        require_useful("t", BUILT_IN["mrpc"], constant, labels, "validation")
    better = constant.copy()
    better[9] = [0.0, 1.0]
    require_useful("t", BUILT_IN["mrpc"], better, labels, "validation")


def test_chance_is_zero_for_correlations() -> None:
    labels = np.linspace(0, 5, 20)
    with pytest.raises(TeacherRefusedError, match="pearson"):
        require_useful("t", BUILT_IN["stsb"], -labels[:, None], labels, "validation")
    require_useful("t", BUILT_IN["stsb"], labels[:, None], labels, "validation")
    cola = np.asarray([0, 1] * 10)
    with pytest.raises(TeacherRefusedError, match=r"matthews on validation is 0\.000"):
        require_useful("t", BUILT_IN["cola"], np.tile([[0.0, 1.0]], (20, 1)), cola, "validation")
