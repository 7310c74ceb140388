"""What stands in the output: its columns, and their values for a window of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.errors import DataError
from pipeline.predict.rows import Row

Array = np.ndarray[Any, Any]
Column = Sequence[Any] | Array

INDEX, PREDICTION, SCORE = "index", "prediction", "score"
PROBABILITY = "p_{}"


class Layout(Protocol):
    """A kind of output."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""

    def columns(self, rows: Sequence[Row], outputs_NK: Array) -> list[Column]:
        """Values of each column; numbers that were computed are arrays."""


@dataclass(frozen=True)
class Predictions:
    """index, kept columns, then prediction and a probability per label, or score."""

    labels: tuple[str, ...]
    """() for regression."""
    kept: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.kept:
            if self.names.count(name) > 1:
                raise DataError(
                    f"--keep {name}: the output has that column already; rename it in the input."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        if not self.labels:
            return (INDEX, *self.kept, SCORE)
        probabilities = (PROBABILITY.format(label) for label in self.labels)
        return (INDEX, *self.kept, PREDICTION, *probabilities)

    def columns(self, rows: Sequence[Row], outputs_NK: Array) -> list[Column]:
        """Values of each column."""
        kept = list(zip(*(row.kept for row in rows), strict=True))
        return [[row.index for row in rows], *kept, *self._computed(outputs_NK)]

    def _computed(self, outputs_NK: Array) -> list[Column]:
        outputs: list[Any] = [*outputs_NK.T]
        if not self.labels:
            return outputs
        return [[self.labels[place] for place in outputs_NK.argmax(-1)], *outputs]


class Tally:
    """What was predicted in all: how often each label, or mean, min and max of a regression."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._counts: Counter[int] = Counter()
        self._sum, self._min, self._max = 0.0, float("inf"), float("-inf")
        self.rows = 0

    def add(self, outputs_NK: Array) -> None:
        """Take note of a window."""
        self.rows += len(outputs_NK)
        if self._labels:
            self._counts.update(outputs_NK.argmax(-1).tolist())
        else:
            self._sum += float(outputs_NK.sum(dtype=np.float64))
            self._min = min(self._min, float(outputs_NK.min()))
            self._max = max(self._max, float(outputs_NK.max()))

    def summary(self) -> dict[str, float]:
        """Rows by label; or mean, min and max, {} where there is no row."""
        if self._labels:
            return {label: self._counts[place] for place, label in enumerate(self._labels)}
        if not self.rows:
            return {}
        return {"mean": self._sum / self.rows, "min": self._min, "max": self._max}
