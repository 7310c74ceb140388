"""pytest tests/pipeline/test_metrics.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.metrics import accuracy, chance_level, score
from pipeline.tasks import BUILT_IN, Task

Array = np.ndarray[Any, Any]


def logits_of(classes: list[int], outputs: int = 2) -> Array:
    """(rows, outputs) logits whose largest is at `classes`."""
    return np.eye(outputs)[classes] * 3.0 - 1.0


def as_column(numbers: list[float]) -> Array:
    return np.array(numbers)[:, None]


# worked by hand: predicted 1 1 1 0 0 0 1 0, true 1 1 0 0 0 1 1 0 -> tp 3, fp 1, fn 1, tn 3
PREDICTED = [1, 1, 1, 0, 0, 0, 1, 0]
TRUE = np.array([1, 1, 0, 0, 0, 1, 1, 0])


def test_accuracy_f1_and_matthews_by_hand() -> None:
    both = score(BUILT_IN["mrpc"], logits_of(PREDICTED), TRUE)
    assert both == pytest.approx({"f1": 6 / 8, "accuracy": 6 / 8})  # f1 = 2 tp / (2 tp + fp + fn)
    assert list(both) == ["f1", "accuracy"]
    matthews = score(BUILT_IN["cola"], logits_of(PREDICTED), TRUE)["matthews"]
    assert matthews == pytest.approx((3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4))


def test_f1_is_of_the_second_label() -> None:
    """2 * 1 / (2 * 1 + 0 + 2) for label 1; it would be 10 / 12 for label 0."""
    result = score(
        BUILT_IN["qqp"], logits_of([1, 0, 0, 0, 0, 0, 0, 0]), np.array([1] * 3 + [0] * 5)
    )
    assert result["f1"] == pytest.approx(2 / 4)


def test_pearson_and_spearman_by_hand() -> None:
    """Predictions 1 2 3 10 for 1 2 3 4: deviations -3 -2 -1 6 and -1.5 -.5 .5 1.5, so 14 / root."""
    result = score(BUILT_IN["stsb"], as_column([1, 2, 3, 10]), np.array([1.0, 2, 3, 4]))
    assert result["pearson"] == pytest.approx(14 / np.sqrt(50 * 5))
    assert result["spearman"] == pytest.approx(1.0)


def matthews_by_counts(predicted: Array, true: Array) -> float:
    tp, tn = ((predicted == c) & (true == c) for c in (1, 0))
    fp, fn = ((predicted == c) & (true != c) for c in (1, 0))
    a, b, c, d = (int(each.sum()) for each in (tp, tn, fp, fn))
    below = (a + c) * (a + d) * (b + c) * (b + d)
    return float((a * b - c * d) / np.sqrt(below)) if below else 0.0


def ranks(values: Array) -> Array:
    """Mean rank of ties, by counting."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


@pytest.mark.parametrize("seed", range(5))
def test_matthews_agrees_with_confusion_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, true = rng.normal(size=(117, 2)), rng.integers(0, 2, 117)
    expected = matthews_by_counts(logits.argmax(-1), true)
    assert score(BUILT_IN["cola"], logits, true)["matthews"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_pearson_of_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.integers(0, 9, 117) / 2, rng.integers(0, 6, 117).astype(float)
    result = score(BUILT_IN["stsb"], predicted[:, None], true)
    assert result["spearman"] == pytest.approx(np.corrcoef(ranks(predicted), ranks(true))[0, 1])
    assert result["pearson"] == pytest.approx(np.corrcoef(predicted, true)[0, 1])


@pytest.mark.parametrize(
    ("task", "logits", "labels"),
    [
        ("cola", logits_of([0, 0, 0]), [0, 1, 0]),  # the same class always
        ("cola", logits_of([0, 0]), [0, 0]),
        ("stsb", as_column([2, 2, 2]), [1, 2, 3]),
        ("stsb", as_column([1, 2, 3]), [2, 2, 2]),
        ("stsb", as_column([1]), [2]),
        ("stsb", as_column([np.nan, 1, 2]), [1, 2, 3]),
    ],
)
def test_no_correlation_is_zero_without_a_warning(task: str, logits: Array, labels: Any) -> None:
    assert set(score(BUILT_IN[task], logits, np.array(labels)).values()) == {0.0}


def test_f1_without_any_positive_is_zero() -> None:
    result = score(BUILT_IN["mrpc"], logits_of([0, 0]), np.array([0, 0]))
    assert result == {"f1": 0.0, "accuracy": 1.0}


def test_three_classes() -> None:
    result = score(BUILT_IN["mnli"], logits_of([2, 1, 0, 2], 3), np.array([2, 1, 1, 0]))
    assert result == {"accuracy": 0.5}
    assert accuracy(logits_of([2, 1, 0, 2], 3), np.array([2, 1, 1, 0])) == 0.5


def test_chance_is_the_majority_class_or_no_correlation() -> None:
    labels = np.array([0, 2, 2, 1, 2])
    assert chance_level(BUILT_IN["mnli"], labels) == ("accuracy", 0.6)
    assert chance_level(BUILT_IN["mrpc"], np.array([1, 1, 0])) == ("accuracy", 2 / 3)
    assert chance_level(BUILT_IN["cola"], np.array([1, 1, 0])) == ("matthews", 0.0)
    own = Task(name="own", text_columns=("text",), metrics=("spearman", "pearson"))
    assert chance_level(own, np.array([1.5, 2.5])) == ("spearman", 0.0)
