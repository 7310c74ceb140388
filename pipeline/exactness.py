"""How exact a cache is: stored values against the teacher run again on sampled rows.

Shapes: R sampled rows, L layers, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class RowErrors:
    """Errors of sampled rows."""

    logits_RK: Array
    """Absolute difference."""
    relative_RL: Array
    """L2 norm of the difference over that of the exact vector."""
    cosine_RL: Array
    """1 - cosine similarity, at least 0."""


def sample_rows(rows: int, count: int) -> list[int]:
    """Evenly spaced row numbers, first and last included."""
    spaced = np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64)
    return [int(row) for row in np.unique(spaced)]


def row_errors(
    exact_logits: Array, exact_cls: Array, stored_logits: Array, stored_cls: Array
) -> RowErrors:
    """Compare in float64: logits (R, K) with logits, [CLS] (R, L, H) with [CLS]."""
    exact_RLH, stored_RLH = exact_cls.astype(np.float64), stored_cls.astype(np.float64)
    norm_RL = np.linalg.norm(exact_RLH, axis=-1)
    product_RL = norm_RL * np.linalg.norm(stored_RLH, axis=-1)
    cosine_RL = 1 - (stored_RLH * exact_RLH).sum(-1) / product_RL
    return RowErrors(
        logits_RK=np.abs(stored_logits.astype(np.float64) - exact_logits),
        relative_RL=np.linalg.norm(stored_RLH - exact_RLH, axis=-1) / norm_RL,
        cosine_RL=cosine_RL.clip(min=0),
    )


def summarize(found: Sequence[RowErrors], layers: Sequence[int]) -> dict[str, Any]:
    """The manifest's `measured_error`: per layer the largest and mean error over the rows."""
    relative_RL = np.concatenate([each.relative_RL for each in found])
    cosine_RL = np.concatenate([each.cosine_RL for each in found])
    per_layer = {
        str(layer): {
            "relative_l2_max": _digits(relative_RL[:, place].max()),
            "relative_l2_mean": _digits(relative_RL[:, place].mean()),
            "cosine_distance_max": _digits(cosine_RL[:, place].max()),
            "cosine_distance_mean": _digits(cosine_RL[:, place].mean()),
        }
        for place, layer in enumerate(layers)
    }
    largest = max(float(each.logits_RK.max()) for each in found)
    return {"rows": len(relative_RL), "layers": per_layer, "logits_abs_max": _digits(largest)}


def _digits(value: float) -> float:
    """Three significant digits: an error is an order of magnitude."""
    return float(f"{value:.3g}")
