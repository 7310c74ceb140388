"""Is a model as often right as it is sure? Reliability diagram and expected calibration error.

Shapes: N rows, K classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.report.answers.types import Array, log_probabilities

BINS = 15


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Rows binned by confidence, the largest probability; bin b holds ((b - 1) / B, b / B]."""

    rows_B: Array
    confidence_B: Array
    """Mean of each bin; NaN in an empty one."""
    accuracy_B: Array
    """Share of right rows; NaN in an empty one."""
    likelihood: float
    """Mean negative log likelihood of the labels, in nats."""

    @property
    def error(self) -> float:
        """ECE: sum over bins of rows / N * |accuracy - confidence| (Guo et al. 2017)."""
        gaps_B = np.abs(self.accuracy_B - self.confidence_B)
        return float(np.nansum(self.rows_B / self.rows_B.sum() * gaps_B))

    @property
    def accuracy(self) -> float:
        """Of all rows."""
        return float(np.nansum(self.rows_B * self.accuracy_B) / self.rows_B.sum())

    @property
    def confidence(self) -> float:
        """Mean over all rows."""
        return float(np.nansum(self.rows_B * self.confidence_B) / self.rows_B.sum())


def reliability(labels_N: Array, logits_NK: Array, bins: int = BINS) -> Reliability:
    """Bin a classifier's rows; N > 0."""
    logs_NK = log_probabilities(logits_NK)
    sure_N, right_N = np.exp(logs_NK.max(-1)), logits_NK.argmax(-1) == labels_N
    bin_N = np.clip(np.ceil(sure_N * bins).astype(int) - 1, 0, bins - 1)
    rows_B = np.bincount(bin_N, minlength=bins)
    sure_B = np.bincount(bin_N, weights=sure_N, minlength=bins)
    right_B = np.bincount(bin_N, weights=right_N, minlength=bins)
    of_label_N = logs_NK[np.arange(len(labels_N)), labels_N]
    with np.errstate(invalid="ignore"):
        return Reliability(
            rows_B=rows_B,
            confidence_B=sure_B / rows_B,
            accuracy_B=right_B / rows_B,
            likelihood=float(-of_label_N.mean()),
        )


def pooled(labels_N: Array, logits_SNK: Array) -> Reliability:
    """The bins of all seeds together, for a picture; its `error` is not the mean of theirs."""
    seeds, _, classes = logits_SNK.shape
    return reliability(np.tile(labels_N, seeds), logits_SNK.reshape(-1, classes))
