"""Medians and spread of measured seconds, and ratios of medians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Measured = dict[str, Any]
"""median, q1, q3 and sum in seconds, and count; or `missing`, a sentence."""


def summary(seconds: Sequence[float]) -> Measured:
    """Median, quartiles, sum and count."""
    q1, median, q3 = np.percentile(np.asarray(seconds, np.float64), [25, 50, 75])
    return {
        "median": float(median), "q1": float(q1), "q3": float(q3), "sum": float(sum(seconds)),
        "count": len(seconds),
    }  # fmt: skip


def paired(one: Measured | None, other: Measured | None) -> float | None:
    """Median over the steps of how many times `other` is `one`; both did the same in each step.

    What slows the machine for a while slows both, so this varies less than a ratio of medians,
    which it is where a file does not hold the single steps.
    """
    if ratio(one, other) is None or not one or not other:
        return None
    if len(one.get("steps", ())) != one["count"] or len(other.get("steps", ())) != one["count"]:
        return ratio(one, other)
    return float(np.median(np.asarray(one["steps"]) / np.asarray(other["steps"])))


def ratio(one: Measured | None, other: Measured | None, key: str = "median") -> float | None:
    """How many times `other` is `one`; None where one of them was not measured."""
    if not one or not other or "missing" in one or "missing" in other:
        return None
    return float(one[key]) / float(other[key])
