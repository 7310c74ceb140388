"""Rows that the teacher gets right and a student gets wrong, the surest mistakes first. Pure.

Shapes: N rows, K classes, S seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.report.answers.types import Answers, GroupAnswers, probabilities


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One row."""

    place: int
    """Of the row in its split."""
    label: int
    """The right class, and the teacher's."""
    said: int
    """The students' class: that of their mean probabilities."""
    confidence: float
    """Mean probability of `said` over the seeds."""
    teacher_confidence: float
    """The teacher's probability of the label."""
    wrong_seeds: int
    seeds: int


def worst(answers: Answers, of: GroupAnswers, most: int) -> list[Disagreement]:
    """The rows where the teacher is right and the students are most confidently wrong.

    Args:
        answers: of a task of classes.
        of: one of its groups.
        most: rows to return; of equals, the earlier ones.
    """
    shares_NK = probabilities(of.logits_SNK).mean(0)
    said_N, teacher_NK = shares_NK.argmax(-1), probabilities(answers.teacher_NK)
    labels_N, rows = answers.labels_N, np.arange(len(shares_NK))
    missed_N = (teacher_NK.argmax(-1) == labels_N) & (said_N != labels_N)
    sure_N = np.where(missed_N, shares_NK[rows, said_N], -1.0)
    order = np.argsort(-sure_N, kind="stable")[: min(most, int(missed_N.sum()))]
    wrong_SN = of.logits_SNK.argmax(-1) != labels_N
    return [
        Disagreement(
            place=int(answers.places_N[row]),
            label=int(labels_N[row]),
            said=int(said_N[row]),
            confidence=float(sure_N[row]),
            teacher_confidence=float(teacher_NK[row, labels_N[row]]),
            wrong_seeds=int(wrong_SN[:, row].sum()),
            seeds=len(wrong_SN),
        )
        for row in order
    ]
