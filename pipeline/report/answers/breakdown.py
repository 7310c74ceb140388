"""Scores by class and by length, and agreement with the teacher. Pure.

Shapes: N rows, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.report.answers.types import Array, log_probabilities, probabilities

LENGTH_BINS = 4


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One model on one class."""

    recall: float | None
    """Share of the rows of this class that are said to be of it; None without such rows."""
    precision: float | None
    """Share of the rows said to be of this class that are of it; None where none is said to be."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One student beside its teacher; shares of the rows, 1.0 = all."""

    same: float
    """Both name the same class, right or wrong."""
    both_right: float
    teacher_alone: float
    """The teacher is right, the student wrong."""
    student_alone: float
    both_wrong: float
    divergence: float
    """Mean KL(teacher || student) of the probabilities, in nats."""


def class_scores(labels_N: Array, logits_NK: Array) -> list[ClassScore]:
    """Recall and precision of every class."""
    predicted_N = logits_NK.argmax(-1)
    found = []
    for index in range(logits_NK.shape[1]):
        of_class, said = labels_N == index, predicted_N == index
        hits = int((of_class & said).sum())
        found.append(
            ClassScore(
                recall=hits / of_class.sum() if of_class.any() else None,
                precision=hits / said.sum() if said.any() else None,
            )
        )
    return found


def length_bins(lengths_N: Array, most: int = LENGTH_BINS) -> list[tuple[int, int]]:
    """Ranges of length (tokens, both ends included) with about equally many rows in each.

    Fewer than `most` where many rows are of one length; no range is empty.
    """
    cuts = np.quantile(lengths_N, np.arange(1, most) / most, method="inverted_cdf")
    ends = sorted({int(cut) for cut in cuts} | {int(lengths_N.max())})
    found, low = [], int(lengths_N.min())
    for end in ends:
        inside = lengths_N[(lengths_N >= low) & (lengths_N <= end)]
        if len(inside):
            found.append((int(inside.min()), end))
            low = end + 1
    return found


def rows_in(lengths_N: Array, ends: tuple[int, int]) -> Array:
    """(N,) bool: rows whose length is in a range, both ends included."""
    inside: Array = (lengths_N >= ends[0]) & (lengths_N <= ends[1])
    return inside


def hit_rate(labels_N: Array, logits_NK: Array) -> float:
    """Accuracy."""
    return float((logits_NK.argmax(-1) == labels_N).mean())


def mean_error(numbers_N: Array, logits_N1: Array) -> float:
    """Mean absolute difference of a task of numbers."""
    return float(np.abs(logits_N1[:, 0] - numbers_N).mean())


def agreement(labels_N: Array, teacher_NK: Array, student_NK: Array) -> Agreement:
    """Compare a student with its teacher, row by row."""
    taught_N, said_N = teacher_NK.argmax(-1), student_NK.argmax(-1)
    right_N, learnt_N = taught_N == labels_N, said_N == labels_N
    return Agreement(
        same=float((taught_N == said_N).mean()),
        both_right=float((right_N & learnt_N).mean()),
        teacher_alone=float((right_N & ~learnt_N).mean()),
        student_alone=float((~right_N & learnt_N).mean()),
        both_wrong=float((~right_N & ~learnt_N).mean()),
        divergence=_divergence(teacher_NK, student_NK),
    )


def _divergence(teacher_NK: Array, student_NK: Array) -> float:
    log_ratio = log_probabilities(teacher_NK) - log_probabilities(student_NK)
    return float((probabilities(teacher_NK) * log_ratio).sum(-1).mean())
