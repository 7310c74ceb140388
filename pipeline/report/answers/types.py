"""Labelled validation rows, and what each model says of them.

Shapes: N rows, K outputs, S seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.tables import Group

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class GroupAnswers:
    """One row of the tables: students that differ in nothing but the seed."""

    group: Group
    """Only those of its runs that have logits."""
    logits_SNK: Array
    """float64, in the order of the runs."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The labelled rows of one split."""

    label_names: tuple[str, ...]
    """() for a task of numbers."""
    places_N: Array
    """The rows' places in the split."""
    labels_N: Array
    """int64 classes, or float64 numbers."""
    lengths_N: Array
    """Tokens of each row, special ones included."""
    teacher_NK: Array
    """float64 logits from the cache."""
    groups: tuple[GroupAnswers, ...]

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers."""
        return not self.label_names


def probabilities(logits_NK: Array) -> Array:
    """Softmax over the last axis."""
    shares: Array = np.exp(log_probabilities(logits_NK))
    return shares


def log_probabilities(logits_NK: Array) -> Array:
    """Log-softmax over the last axis."""
    from scipy.special import log_softmax

    logs: Array = log_softmax(logits_NK, axis=-1)
    return logs
