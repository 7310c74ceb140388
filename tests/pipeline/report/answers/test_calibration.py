"""Run with: pytest tests/pipeline/report/answers/test_calibration.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline.report.answers.calibration import pooled, reliability


def plain_error(labels: list[int], logits: list[list[float]], bins: int = 15) -> float:
    """ECE by a second way: rows one by one, bins as lists."""
    cells: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for label, row in zip(labels, logits, strict=True):
        shares = torch.tensor(row, dtype=torch.float64).softmax(-1).tolist()
        sure = max(shares)
        place = next(b for b in range(bins) if sure <= (b + 1) / bins + 1e-12)
        cells[place].append((sure, shares.index(sure) == label))
    total = 0.0
    for cell in (each for each in cells if each):
        confidence = math.fsum(sure for sure, _ in cell) / len(cell)
        accuracy = sum(right for _, right in cell) / len(cell)
        total += len(cell) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [0.1, 2.0, 40.0])
def test_the_error_is_that_of_a_plain_loop(classes: int, scale: float) -> None:
    draw = np.random.default_rng(classes)
    labels, logits = draw.integers(0, classes, 211), draw.normal(size=(211, classes)) * scale
    found = reliability(labels, logits)
    assert found.error == pytest.approx(plain_error(labels.tolist(), logits.tolist()))
    assert found.rows_B.sum() == 211
    assert found.accuracy == pytest.approx((logits.argmax(-1) == labels).mean())
    shares = torch.from_numpy(logits).softmax(-1).numpy()
    assert found.confidence == pytest.approx(shares.max(-1).mean())
    expected = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found.likelihood == pytest.approx(float(expected))


def test_by_hand() -> None:
    """Two rows of confidence 0.8, one right; two of 0.6, both right: 0.5 * 0.3 + 0.5 * 0.4."""
    logits = np.log([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    found = reliability(np.array([0, 1, 0, 0]), logits)
    assert found.error == pytest.approx(0.35)
    full = found.rows_B > 0
    # (8/15, 9/15] is bin 9 and (11/15, 12/15] bin 12, counted from 1; both ends are values here
    assert np.flatnonzero(full).tolist() in ([8, 11], [9, 11], [8, 12], [9, 12])
    assert found.confidence_B[full].tolist() == pytest.approx([0.6, 0.8])
    assert found.accuracy_B[full].tolist() == pytest.approx([1.0, 0.5])


def test_a_sure_model_falls_into_the_last_bin() -> None:
    found = reliability(np.array([0, 0]), np.array([[900.0, -900.0], [900.0, -900.0]]))
    assert found.rows_B.tolist() == [0] * 14 + [2]
    assert found.error == 0.0
    assert reliability(np.array([1]), np.array([[900.0, -900.0]])).likelihood == 1800.0


def test_pooled_bins_are_those_of_all_seeds() -> None:
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 2, 40), draw.normal(size=(3, 40, 2))
    rows = sum(reliability(labels, each).rows_B for each in logits)
    found = pooled(labels, logits)
    assert found.rows_B.tolist() == np.asarray(rows).tolist()
    stacked = np.concatenate(list(logits))
    assert found.error == pytest.approx(plain_error(labels.tolist() * 3, stacked.tolist()))
