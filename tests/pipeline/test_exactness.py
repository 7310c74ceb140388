"""pytest tests/pipeline/test_exactness.py"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.exactness import row_errors, sample_rows, summarize


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
    found = row_errors(logits, exact, logits + np.asarray([0.25, 0.0]), stored)
    assert found.relative_RL[0].tolist() == pytest.approx([0.1, 2**0.5])
    assert found.cosine_RL[0].tolist() == pytest.approx([0.0, 1.0])
    summary = summarize([found, row_errors(logits, exact, logits, exact)], [2, 5])
    assert summary["rows"] == 2
    assert summary["logits_abs_max"] == 0.25
    assert summary["layers"]["2"]["relative_l2_max"] == 0.1
    assert summary["layers"]["5"]["relative_l2_mean"] == pytest.approx(2**0.5 / 2, rel=1e-2)
    assert summary["layers"]["5"]["cosine_distance_max"] == 1.0
