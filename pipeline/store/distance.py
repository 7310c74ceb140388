"""How far two sets of [CLS] vectors are apart, row by row.

Shapes: R rows, H hidden size; further axes between them are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def relative_l2(one_RH: Array, other_RH: Array) -> Array:
    """(R,) float64: |other - one| / |one|.

    Where `one` is all zeros, which has no length to compare with, 0 if `other` is too, else 1.
    """
    one, other = one_RH.astype(np.float64), other_RH.astype(np.float64)
    gap_R, norm_R = np.linalg.norm(other - one, axis=-1), np.linalg.norm(one, axis=-1)
    result: Array = (gap_R > 0).astype(np.float64)
    np.divide(gap_R, norm_R, out=result, where=norm_R > 0)
    return result


def cosine_distance(one_RH: Array, other_RH: Array) -> Array:
    """(R,) float64 in 0..2: 1 - cosine of the angle; 0 where a vector is all zeros."""
    one, other = one_RH.astype(np.float64), other_RH.astype(np.float64)
    product_R = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    dot_R = (one * other).sum(-1)
    cosine_R: Array = np.ones_like(dot_R)
    np.divide(dot_R, product_R, out=cosine_R, where=product_R > 0)
    result: Array = (1 - cosine_R).clip(min=0)
    return result
