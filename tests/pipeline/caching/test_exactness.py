"""pytest tests/pipeline/caching/test_exactness.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.caching.exactness import (
    measure_errors,
    require_exact,
    require_stated_exact,
    sample_rows,
    summarize,
)
from pipeline.errors import CacheError


def test_rows_are_spread_with_both_ends() -> None:
    assert sample_rows(10, 64) == list(range(10))
    chosen = sample_rows(1000, 64)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 999, 64)
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_errors_by_hand() -> None:
    """A vector 10 % too long has no angle; one turned by 90 degrees has distance sqrt 2."""
    exact = np.asarray([[[3.0, 4.0], [1.0, 0.0]]])
    stored = np.asarray([[[3.3, 4.4], [0.0, 1.0]]])
    logits = np.asarray([[1.0, -1.0]])
    found = measure_errors(logits, exact, logits + np.asarray([0.25, 0.0]), stored)
    assert found["relative_l2_max"] == pytest.approx([0.1, 2**0.5])
    assert found["cosine_distance_max"] == pytest.approx([0.0, 1.0])
    summary = summarize([found, measure_errors(logits, exact, logits, exact)], [2, 5])
    assert summary["rows"] == 2
    assert summary["logits_abs_max"] == 0.25
    assert summary["layers"]["2"]["relative_l2_max"] == 0.1
    assert summary["layers"]["5"]["relative_l2_mean"] == pytest.approx(2**0.5 / 2, rel=1e-2)
    assert summary["layers"]["5"]["cosine_distance_max"] == 1.0
    require_exact(found, [2, 5], 1.5, "int8")
    with pytest.raises(CacheError, match=r"Layer 5: .* by 1\.41 .* --max-error allows 1\."):
        require_exact(found, [2, 5], 1.0, "int8")


def test_what_a_build_let_pass_passes_again() -> None:
    """1.0056 is stated as 1.01; a limit is rounded likewise before the two are compared."""
    logits, one = np.zeros((1, 2)), np.asarray([[[1.0, 0.0]]])
    found = measure_errors(logits, one, logits, one * 2.0046)
    require_exact(found, [3], 1.0047, "int8")
    stated = summarize([found], [3])
    require_stated_exact(Path("c.zarr"), stated, 1.0047, "int8")
    found = measure_errors(logits, one, logits, one * 2.0056)
    stated = summarize([found], [3])
    require_stated_exact(Path("c.zarr"), stated, 1.0057, "int8")
    with pytest.raises(CacheError, match=r"layer 3 .* by 1\.01 .*--overwrite and a wider --dtype"):
        require_stated_exact(Path("c.zarr"), stated, 1.0, "int8")
    with pytest.raises(CacheError, match=r"Build it with a larger --max-error\."):
        require_stated_exact(Path("c.zarr"), stated, 1.0, "float32")


def test_a_vector_of_zeros_has_no_error_when_it_is_stored_as_zeros() -> None:
    zero, logits = np.zeros((1, 1, 3)), np.zeros((1, 2))
    found = measure_errors(logits, zero, logits, zero)
    assert (found["relative_l2_max"], found["cosine_distance_max"]) == ([0.0], [0.0])
