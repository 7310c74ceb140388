"""How exact a cache is: stored values against a float32 forward of sampled rows.

Shapes: R sampled rows, L layers, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CacheError
from pipeline.store.distance import cosine_distance, relative_l2

Array = np.ndarray[Any, Any]
Errors = dict[str, Any]


def sample_rows(rows: int, count: int) -> list[int]:
    """Evenly spaced row numbers, first and last included."""
    spaced = np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64)
    return [int(row) for row in np.unique(spaced)]


def measure_errors(
    exact_logits: Array, exact_cls: Array, stored_logits: Array, stored_cls: Array
) -> Errors:
    """Compare in float64: logits (R, K) with logits, [CLS] (R, L, H) with [CLS].

    Returns:
        rows; per layer (lists of L) the sum and the largest over rows of the relative L2 error
        |stored - exact| / |exact| and of the cosine distance; logits_abs_max. Plain JSON, so that
        shards measured by several processes can be summed in one order.
    """
    relative_RL = relative_l2(exact_cls, stored_cls)
    cosine_RL = cosine_distance(exact_cls, stored_cls)
    return {
        "rows": len(relative_RL),
        "relative_l2_sum": relative_RL.sum(axis=0).tolist(),
        "relative_l2_max": relative_RL.max(axis=0).tolist(),
        "cosine_distance_sum": cosine_RL.sum(axis=0).tolist(),
        "cosine_distance_max": cosine_RL.max(axis=0).tolist(),
        "logits_abs_max": float(np.abs(stored_logits.astype(np.float64) - exact_logits).max()),
    }


def require_exact(errors: Errors, layers: Sequence[int], limit: float, dtype: str) -> None:
    """Raise CacheError when a sampled row's relative L2 error is above `limit`."""
    largest_L = errors["relative_l2_max"]
    worst = max(range(len(largest_L)), key=lambda place: largest_L[place])
    if largest_L[worst] > limit:
        more = "" if dtype == "float32" else "a wider --dtype (float32), --compute float32, or "
        raise CacheError(
            f"Layer {layers[worst]}: a stored [CLS] differs from the teacher's by "
            f"{largest_L[worst]:.3g} of its length, --max-error allows {limit:g}. Build with "
            f"{more}a larger --max-error."
        )


def require_stated_exact(where: Path, stated: Mapping[str, Any], limit: float, dtype: str) -> None:
    """Raise CacheError when a finished cache's `measured_error` is above `limit`.

    It has three digits, so the limit is rounded likewise: what a build with it let pass, passes.
    """
    layers = stated["layers"]
    worst = max(layers, key=lambda layer: layers[layer]["relative_l2_max"])
    found = layers[worst]["relative_l2_max"]
    if found > _digits(limit):
        more = "" if dtype == "float32" else "a wider --dtype (float32) or --compute float32, or "
        raise CacheError(
            f"{where}: is built already, and in layer {worst} a stored [CLS] differs from the "
            f"teacher's by {found:.3g} of its length; --max-error allows {limit:g}. Build it with "
            f"{more and '--overwrite and '}{more}a larger --max-error."
        )


def summarize(found: Sequence[Errors], layers: Sequence[int]) -> dict[str, Any]:
    """The manifest's `measured_error`: per layer the largest and mean error over the rows."""
    rows = sum(each["rows"] for each in found)
    per_layer = {
        str(layer): {
            f"{name}_{kind}": _digits(_over(found, name, kind, place) / (rows if mean else 1))
            for name in ("relative_l2", "cosine_distance")
            for kind, mean in (("max", False), ("mean", True))
        }
        for place, layer in enumerate(layers)
    }
    largest = max(each["logits_abs_max"] for each in found)
    return {"rows": rows, "layers": per_layer, "logits_abs_max": _digits(largest)}


def _over(found: Sequence[Errors], name: str, kind: str, place: int) -> float:
    """The largest, or the sum that the mean is made of, over all that was measured."""
    if kind == "max":
        return float(max(each[f"{name}_max"][place] for each in found))
    return float(sum(each[f"{name}_sum"][place] for each in found))


def _digits(value: float) -> float:
    """Three significant digits: an error is an order of magnitude."""
    return float(f"{value:.3g}")
