"""The same rows of two splits, wherever they stand. Shapes: P pairs."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The same rows of two splits."""

    a_P: Array
    """Row numbers in A, increasing."""
    b_P: Array
    """Those in B."""
    labels_changed: int
    ids_changed: int

    def __len__(self) -> int:
        return len(self.a_P)


def pair_rows(one: Any, other: Any) -> Pairs:
    """Rows of two tables of examples with the same row_digest, each row in one pair at most.

    Of rows that repeat each other, those with equal labels are paired first.
    """
    labels_a, labels_b = one["label"].to_pylist(), other["label"].to_pylist()
    rows_a, rows_b = _rows_of(one), _rows_of(other)
    pairs = sorted(
        pair
        for digest, repeats in rows_a.items()
        for pair in _pair_repeats(repeats, rows_b.get(digest, []), labels_a, labels_b)
    )
    a_P, b_P = np.array(pairs, np.int64).reshape(-1, 2).T
    ids_a, ids_b = np.asarray(one["example_id"])[a_P], np.asarray(other["example_id"])[b_P]
    return Pairs(
        a_P=a_P,
        b_P=b_P,
        labels_changed=sum(labels_a[a] != labels_b[b] for a, b in pairs),
        ids_changed=int((ids_a != ids_b).sum()),
    )


def _rows_of(examples: Any) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(examples["row_digest"].to_pylist()):
        rows[digest].append(row)
    return rows


def _pair_repeats(
    rows_a: Sequence[int], rows_b: Sequence[int], labels_a: list[Any], labels_b: list[Any]
) -> Iterator[tuple[int, int]]:
    """Pairs of rows with one digest: equal labels first, then the others in order."""
    waiting: dict[Any, deque[int]] = defaultdict(deque)
    for row in rows_b:
        waiting[labels_b[row]].append(row)
    rest = []
    for row in rows_a:
        same = waiting[labels_a[row]]
        if same:
            yield row, same.popleft()
        else:
            rest.append(row)
    left = sorted(row for rows in waiting.values() for row in rows)
    yield from zip(rest, left, strict=False)
