"""What no other model beats in both score and cost: the Pareto frontier. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def frontier(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Indices of the points on the frontier, the cheapest first.

    A point is on it when no other has at least its score at no more cost, and more of one of them;
    of equal points, all are.

    Args:
        costs: milliseconds or bytes: less is better.
        scores: more is better.
    """
    points = list(zip(costs, scores, strict=True))
    kept = [
        index
        for index, (cost, score) in enumerate(points)
        if not any(
            other_cost <= cost and other >= score and (other_cost, other) != (cost, score)
            for other_cost, other in points
        )
    ]
    return sorted(kept, key=lambda index: (points[index], index))
