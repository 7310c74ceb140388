"""pytest tests/pipeline/test_batches.py"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batches import Rows, sorted_batches, token_budget_batches, training_batches

IDS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14]]


def table(types: bool, label: pa.Array) -> pa.Table:
    kinds: list[list[int] | None] = [[0] * len(row) if types else None for row in IDS]
    if types:
        kinds[3] = [0, 0, 1, 1]
    return pa.table(
        {
            "input_ids": pa.array(IDS, pa.list_(pa.int32())),
            "token_type_ids": pa.array(kinds, pa.list_(pa.int8())),
            "label": label,
        }
    )


def test_a_batch_is_the_rows_padded_on_the_right() -> None:
    rows = Rows.from_examples(table(True, pa.array([0, 1, None, 1], pa.int64())), pad_id=3)
    batch = rows.batch(torch.tensor([3, 1, 0]), length=5)
    assert batch["input_ids"].tolist() == [[11, 12, 13, 14, 3], [8, 3, 3, 3, 3], [5, 6, 7, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1, 1, 0], [0] * 5, [0] * 5]
    assert rows.labels_N.tolist() == [0, 1, -100, 1]
    assert rows.labelled_N.tolist() == [True, True, False, True]


def test_a_slice_of_a_table_and_a_family_without_token_types() -> None:
    label = pa.array([0.5, None, 2.0, 3.0], pa.float64())
    rows = Rows.from_examples(table(False, label).slice(1), pad_id=0)
    assert rows.lengths_N.tolist() == [1, 2, 4]
    assert sorted(rows.batch(torch.tensor([2]), 4)) == ["attention_mask", "input_ids"]
    assert rows.batch(torch.tensor([2]), 4)["input_ids"].tolist() == [[11, 12, 13, 14]]
    assert rows.labelled_N.tolist() == [False, True, True]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    lengths = torch.randint(1, 60, (1037,), generator=torch.Generator().manual_seed(0))
    first, second = (training_batches(lengths, 8, seed=1, epoch=epoch) for epoch in (1, 2))
    for batches in (first, second):
        assert torch.cat(batches).sort().values.tolist() == list(range(1037))
        assert len(batches) == -(-1037 // 8)
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    again = training_batches(lengths, 8, seed=1, epoch=1)
    assert torch.cat(first).tolist() == torch.cat(again).tolist()
    other = training_batches(lengths, 8, seed=2, epoch=1)
    assert torch.cat(first).tolist() != torch.cat(other).tolist()


def test_length_groups_save_padding_and_stay_mixed() -> None:
    lengths = torch.randint(1, 129, (4000,), generator=torch.Generator().manual_seed(0))
    batches = training_batches(lengths, 32, seed=0, epoch=1)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert float(lengths.sum()) / padded > 0.93
    means = [float(lengths[batch].float().mean()) for batch in batches[:20]]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_evaluation_goes_longest_first() -> None:
    batches = sorted_batches(torch.tensor([3, 9, 1, 9, 4]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]


def test_a_token_budget_holds_padding_included() -> None:
    lengths = [5, 1, 3, 3, 8, 2, 40]
    batches = token_budget_batches(lengths, 12)
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    for batch in batches:
        padded = len(batch) * max(lengths[row] for row in batch)
        assert padded <= 12 or len(batch) == 1
    assert [6] in batches
    assert token_budget_batches([], 12) == []


def test_a_batch_ends_where_padding_would_cost_more_than_another_batch() -> None:
    # 40 rows of 10 tokens beside longer ones: at 11 they pad 40, less than a batch's 64; at 12, 80
    assert len(token_budget_batches([10] * 40 + [11] * 40, 8192)) == 1
    assert len(token_budget_batches([10] * 40 + [12] * 40, 8192)) == 2


def cost(batches: list[list[int]]) -> int:
    """Padded tokens and 64 a batch, of batches of lengths."""
    return sum(len(batch) * max(batch) + 64 for batch in batches)


def all_cuts(lengths: list[int]) -> Iterator[list[list[int]]]:
    """Every way to cut a list into runs."""
    if not lengths:
        yield []
    for first in range(1, len(lengths) + 1):
        for rest in all_cuts(lengths[first:]):
            yield [lengths[:first], *rest]


@given(st.lists(st.integers(1, 120), min_size=1, max_size=9))
def test_no_other_cut_of_the_sorted_rows_is_cheaper(lengths: list[int]) -> None:
    found = [[lengths[row] for row in batch] for batch in token_budget_batches(lengths, 10**6)]
    assert [length for batch in found for length in batch] == sorted(lengths)
    assert cost(found) == min(map(cost, all_cuts(sorted(lengths))))
