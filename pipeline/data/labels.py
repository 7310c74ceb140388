"""Labels as their source writes them -> class indices or numbers; None where unlabelled.

In one file, labels are either all names or all indices of the task's `labels`. Where a name is
itself a whole number (`labels: [1, 2, 3]`), numbers are always names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.data.raw import Raw
from pipeline.errors import DataError, did_you_mean
from pipeline.tasks import GLUE_NAMES, Task

Label = int | float | None


def parse_labels(raw: Raw, task: Task, *, required: bool) -> list[Label]:
    """Labels of all rows, typed.

    Args:
        raw: rows; without a column `label` all are unlabelled.
        task: names the labels, or none for regression.
        required: whether each row must have one (train and validation) or may not (test).

    Returns:
        int class indices, or finite floats for regression; None where unlabelled.

    Raises:
        DataError: names the file, the line, what was expected and what was found.
    """
    texts = [_as_text(value) for value in raw.columns.get("label", [None] * len(raw))]
    unlabelled = frozenset() if required else _unlabelled_marks(task)
    # the hub's -1 is neither a name nor an index: it has no say in which of them these labels are
    read, expected = _reader(task, [text for text in texts if text not in unlabelled])
    labels = [None if text in unlabelled else read(text) for text in texts]
    for row, label in enumerate(labels):
        if label is None and texts[row] not in unlabelled:
            found = f"found `{texts[row]}`" if texts[row] else "found none"
            raise DataError(
                f"{raw.place(row)}: label: expected {expected}; {found}."
                f"{did_you_mean(texts[row], task.label_names)}"
            )
    return labels


def _as_text(value: Any) -> str:
    """A label as text, "" where missing; 1.0 is 1, for tools keep integers with gaps as floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _unlabelled_marks(task: Task) -> frozenset[str]:
    """What stands for "no label" in a test split: nothing, or the hub's -1 where it is no label."""
    hub_mark = task.name in GLUE_NAMES or not (task.is_regression or "-1" in task.label_names)
    return frozenset({"", "-1"} if hub_mark else {""})


def _reader(task: Task, texts: Sequence[str]) -> tuple[Callable[[str], Label], str]:
    """How to read these labels (None = it is none), and what to expect, in words."""
    if task.is_regression:
        return _number, "a finite number"
    names = {name: place for place, name in enumerate(task.label_names)}
    indices = {str(place): place for place in range(len(names))}
    listed = ", ".join(names)
    if any(_is_whole_number(name) for name in names) or _hits(texts, names) > 0.5:
        return names.get, f"one of {listed}"
    if _hits(texts, indices) > 0.5:
        return indices.get, f"0 to {len(names) - 1} ({listed})"
    return names.get, f"one of {listed}, or everywhere 0 to {len(names) - 1}"


def _hits(texts: Sequence[str], known: dict[str, int]) -> float:
    """Share of the labels that are known."""
    given = [text in known for text in texts if text]
    return sum(given) / len(given) if given else 0.0


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_whole_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
