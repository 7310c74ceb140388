"""Whether an exported model computes what the model computes.

Shapes: N rows, B rows in a batch, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.batches import Rows, batches_of
from pipeline.errors import ExportError
from pipeline.export.runtime import OnnxClassifier

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-4
"""Of a logit, times the largest of them where that is above 1."""
BATCH_SIZES = (1, 3, 8)


@torch.inference_mode()
def side_by_side(model: Any, exported: OnnxClassifier, rows: Rows) -> tuple[Array, Array]:
    """Logits of both in batches of each of `BATCH_SIZES`, rows of all lengths mixed.

    Returns:
        Two arrays (3 N, K): the rows in batches of 1, then of 3, then of 8.
    """
    one: list[Array] = []
    other: list[Array] = []
    for size in BATCH_SIZES:
        for batch in batches_of(rows, torch.arange(len(rows)), size):
            one.append(model(**batch).logits.numpy())
            other.append(exported.run(exported.feed(batch)))
    return np.concatenate(one), np.concatenate(other)


def tolerance_for(logits: Array) -> float:
    """The error that is allowed: `TOLERANCE`, times the largest logit where that is above 1."""
    return TOLERANCE * max(1.0, float(np.abs(logits).max()))


def largest_error(pairs: Sequence[tuple[Array, Array]]) -> float:
    """The largest difference of a logit; NaN where one is."""
    return float(np.concatenate([np.abs(one - other) for one, other in pairs]).max())


def require_equal(pairs: Sequence[tuple[Array, Array]], name: str) -> tuple[float, float]:
    """Refuse an export whose logits differ from the model's.

    Args:
        pairs: the model's logits and the export's.
        name: of the model, for the error.

    Returns:
        The largest error of a logit, and the tolerance.

    Raises:
        ExportError: one is above the tolerance, or not finite.
    """
    error = largest_error(pairs)
    allowed = tolerance_for(np.concatenate([one for one, _ in pairs]))
    if not error <= allowed:
        raise ExportError(
            f"{name}: the exported model's logits differ from PyTorch's by up to {error:.3g}; "
            f"at most {allowed:.3g} is allowed. Nothing was published."
        )
    return error, allowed


def agreement(one: Array, other: Array) -> float | None:
    """Share of rows for which both predict the same label; None for a single output."""
    if one.shape[1] == 1:
        return None
    return float((one.argmax(-1) == other.argmax(-1)).mean())
