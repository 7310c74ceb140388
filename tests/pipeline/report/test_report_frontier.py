"""Run with: pytest tests/pipeline/report/test_report_frontier.py."""

from __future__ import annotations

import numpy as np

from pipeline.report.frontier import frontier


def test_by_hand() -> None:
    costs = [1.0, 2.0, 2.0, 3.0, 4.0, 1.0]
    scores = [0.5, 0.7, 0.6, 0.7, 0.9, 0.5]
    # 2 loses to 1 at the same cost, 3 to 1 at the same score; 0 and 5 are equal
    assert frontier(costs, scores) == [0, 5, 1, 4]


def test_one_and_none() -> None:
    assert frontier([3.0], [0.1]) == [0]
    assert frontier([], []) == []


def test_it_is_what_a_walk_along_the_costs_finds() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        costs, scores = draw.integers(0, 9, 12).tolist(), draw.integers(0, 9, 12).tolist()
        kept, best = [], -1
        for cost in sorted(set(costs)):
            top = max(s for c, s in zip(costs, scores, strict=True) if c == cost)
            if top > best:
                kept += [i for i in range(12) if (costs[i], scores[i]) == (cost, top)]
                best = top
        assert frontier(costs, scores) == kept
