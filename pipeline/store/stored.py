"""[CLS] vectors as they are stored: float32, float16, or int8 with one scale per row and layer.

Shapes: R rows, L layers, H hidden size. Every row is encoded on its own, so that rows can be
gathered, copied and joined as stored without a second rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import CacheError

INT8_LIMIT = 127  # symmetric: -127..127

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Stored:
    """Encoded [CLS] vectors of some rows."""

    values_RLH: Array
    scale_RL: Array | None
    """float32, with int8 only; a value is scale * int8."""

    def __len__(self) -> int:
        return len(self.values_RLH)

    def __getitem__(self, rows: Any) -> Stored:
        """Some of the rows."""
        scale = None if self.scale_RL is None else self.scale_RL[rows]
        return Stored(self.values_RLH[rows], scale)

    def __setitem__(self, rows: Any, other: Stored) -> None:
        """Put rows of another into these."""
        self.values_RLH[rows] = other.values_RLH
        if self.scale_RL is not None:
            self.scale_RL[rows] = other.scale_RL

    def decode(self) -> Array:
        """(R, L, H) floating: float32 from int8, else as stored."""
        if self.scale_RL is None:
            return self.values_RLH
        return self.values_RLH.astype(np.float32) * self.scale_RL[..., None]


def empty_stored(rows: int, layers: int, hidden: int, dtype: str) -> Stored:
    """Room for rows; NaN until they are put in."""
    if dtype != "int8":
        return Stored(np.full((rows, layers, hidden), np.nan, dtype), None)
    scale = np.full((rows, layers), np.nan, np.float32)
    return Stored(np.zeros((rows, layers, hidden), np.int8), scale)


def encode_cls(cls_RLH: Array, dtype: str, layers: Sequence[int]) -> Stored:
    """Encode float32 [CLS] vectors.

    int8 is symmetric with scale = max|v| / 127 for each row and layer, rounded half to even.

    Raises:
        CacheError: a value that is not finite, or beyond the stored type; names the layer.
    """
    _require_finite(cls_RLH, layers)
    if dtype == "int8":
        return _encode_int8(cls_RLH)
    largest_L = np.abs(cls_RLH).max(axis=(0, 2), initial=0)
    limit = float(np.finfo(dtype).max)
    if largest_L.max() > limit:
        layer = int(largest_L.argmax())
        raise CacheError(
            f"Layer {layers[layer]} has values up to {largest_L[layer]:.4g}, beyond {dtype} "
            f"(at most {limit:.4g}); build with --dtype float32, or leave it out with --layers."
        )
    return Stored(cls_RLH.astype(dtype), None)


def _encode_int8(cls_RLH: Array) -> Stored:
    scale_RL = (np.abs(cls_RLH).max(axis=-1, initial=0) / INT8_LIMIT).astype(np.float32)
    # an all-zero vector, or one so small that its scale would be 0, is stored as zeros
    scale_RL[scale_RL == 0] = 1
    values_RLH = np.rint(cls_RLH / scale_RL[..., None]).clip(-INT8_LIMIT, INT8_LIMIT)
    return Stored(values_RLH.astype(np.int8), scale_RL)


def _require_finite(cls_RLH: Array, layers: Sequence[int]) -> None:
    finite_L = np.isfinite(cls_RLH).all(axis=(0, 2))
    if not finite_L.all():
        raise CacheError(
            f"Layer {layers[int(finite_L.argmin())]}: the teacher gave NaN or infinity."
        )
