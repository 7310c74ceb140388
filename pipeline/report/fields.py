"""Checks of single fields of a record; each raises DataError that names the field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.errors import DataError

Scores = Mapping[str, Mapping[str, float]]
"""Split to metric to value."""


def text(record: Mapping[str, Any], key: str) -> str:
    """A non-empty string."""
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"`{key}` is {value!r}, not text")
    return value


def count(record: Mapping[str, Any], key: str) -> int:
    """A whole number, not negative."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"`{key}` is {value!r}, not a count")
    return value


def number(record: Mapping[str, Any], key: str) -> float:
    """A finite number."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"`{key}` is {value!r}, not a finite number")
    return float(value)


def optional_count(record: Mapping[str, Any], key: str) -> int | None:
    """A count, or None where the field is null or absent."""
    return None if record.get(key) is None else count(record, key)


def optional_number(record: Mapping[str, Any], key: str) -> float | None:
    """A number, or None where the field is null or absent."""
    return None if record.get(key) is None else number(record, key)


def mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Keys and values."""
    value = record.get(key)
    if not isinstance(value, Mapping):
        raise DataError(f"`{key}` is {value!r}, not keys and values")
    return value


def pairs(value: Any, place: str) -> tuple[tuple[int, int], ...]:
    """A list of (student layer, teacher layer)."""
    try:
        return tuple((int(student), int(teacher)) for student, teacher in value)
    except (TypeError, ValueError):
        raise DataError(f"`{place}` is {value!r}, not pairs of layers") from None


def read_scores(value: Any, place: str) -> Scores:
    """Split to metric to number."""
    if not isinstance(value, Mapping) or not all(isinstance(v, Mapping) for v in value.values()):
        raise DataError(f"`{place}` is {value!r}, not scores by split")
    return {
        str(split): {str(name): number(metrics, name) for name in metrics}
        for split, metrics in value.items()
    }


def main_split(scores: Scores) -> str:
    """`validation`, else the first in order (`validation_matched` before `..._mismatched`)."""
    return "validation" if "validation" in scores or not scores else min(scores)
