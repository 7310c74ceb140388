"""Run with: pytest tests/pipeline/report/answers/test_breakdown.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import precision_recall_fscore_support

from pipeline.report.answers.breakdown import (
    agreement,
    class_scores,
    hit_rate,
    length_bins,
    mean_error,
    rows_in,
)


def drawn(rows: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    labels = draw.integers(0, classes, rows)
    teacher, student = draw.normal(size=(2, rows, classes))
    return labels, teacher, student


def test_recall_and_precision_are_those_of_scikit_learn() -> None:
    labels, _, logits = drawn()
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, logits.argmax(-1), labels=[0, 1, 2]
    )
    found = class_scores(labels, logits)
    assert [each.recall for each in found] == pytest.approx(recall.tolist())
    assert [each.precision for each in found] == pytest.approx(precision.tolist())


def test_a_class_that_is_not_there_has_no_recall() -> None:
    logits = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    first, second, third = class_scores(np.array([0, 1]), logits)
    assert (first.recall, first.precision) == (0.0, None)
    assert (second.recall, second.precision) == (1.0, 0.5)
    assert (third.recall, third.precision) == (None, None)


def test_agreement_by_counting() -> None:
    labels, teacher, student = drawn()
    counts = dict.fromkeys(("same", "both", "teacher", "student", "neither"), 0)
    divergence = 0.0
    for label, t, s in zip(labels.tolist(), teacher, student, strict=True):
        taught, said = int(t.argmax()), int(s.argmax())
        counts["same"] += taught == said
        right = (taught == label, said == label)
        name = {(True, True): "both", (True, False): "teacher", (False, True): "student"}
        counts[name.get(right, "neither")] += 1
        divergence += entropy(np.exp(t) / np.exp(t).sum(), np.exp(s) / np.exp(s).sum()) / 60
    found = agreement(labels, teacher, student)
    shares = [
        found.same, found.both_right, found.teacher_alone, found.student_alone, found.both_wrong
    ]  # fmt: skip
    assert shares == pytest.approx([count / 60 for count in counts.values()])
    assert found.divergence == pytest.approx(divergence)
    assert agreement(labels, teacher, teacher).divergence == pytest.approx(0.0)


def test_lengths_are_cut_into_ranges_of_equal_many_rows() -> None:
    lengths = np.random.default_rng(1).permutation(np.arange(3, 103))
    assert length_bins(lengths) == [(3, 27), (28, 52), (53, 77), (78, 102)]
    counts = [int(rows_in(lengths, ends).sum()) for ends in length_bins(lengths)]
    assert counts == [25, 25, 25, 25]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5] * 9, [(5, 5)]),
        ([5] * 9 + [8], [(5, 5), (8, 8)]),
        ([2, 9], [(2, 2), (9, 9)]),
        ([4], [(4, 4)]),
        ([7, 7, 7, 7, 9, 12, 12, 30], [(7, 7), (9, 12), (30, 30)]),
    ],
)
def test_rows_of_one_length_stay_together(
    lengths: list[int], expected: list[tuple[int, int]]
) -> None:
    assert length_bins(np.array(lengths)) == expected


def test_every_row_is_in_one_range() -> None:
    draw = np.random.default_rng(5)
    for _ in range(50):
        lengths = draw.integers(1, draw.integers(2, 40), draw.integers(1, 80))
        inside = sum(rows_in(lengths, ends).astype(int) for ends in length_bins(lengths))
        assert (np.asarray(inside) == 1).all()


def test_hits_and_errors_by_hand() -> None:
    assert hit_rate(np.array([0, 1, 1]), np.array([[2.0, 1], [2, 1], [0, 1]])) == pytest.approx(
        2 / 3
    )
    assert mean_error(np.array([1.0, 3.0]), np.array([[2.0], [0.5]])) == pytest.approx(1.75)
