"""Token rows flat in memory; batches length-grouped for training, sorted for evaluation.

Shapes: N rows, T tokens of all rows together, B rows in a batch, S longest row of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNLABELLED_CLASS = -100  # torch's ignore_index
Packed = dict[str, Any]  # model inputs of rows one behind the other: tensors, and two whole numbers
GROUP_BATCHES = 50  # rows are sorted by length within this many batches


@dataclass(frozen=True)
class Rows:
    """All tokens of a split in three flat tensors; a batch is gathered without a Python loop."""

    ids_T: Tensor
    types_T: Tensor | None
    """None where the model family has no token types."""
    starts_N1: Tensor
    """Row n holds tokens starts[n] .. starts[n + 1] - 1."""
    labels_N: Tensor
    """int64 classes with UNLABELLED_CLASS, or float32 numbers with NaN where unlabelled."""
    pad_id: int

    @classmethod
    def from_examples(cls, table: Any, pad_id: int) -> Rows:
        """Read the columns input_ids, token_type_ids and label of a `pyarrow.Table`."""
        ids = table["input_ids"].combine_chunks()
        types = table["token_type_ids"].combine_chunks()
        has_types = types.null_count < len(types)
        starts = np.asarray(ids.offsets).astype(np.int64)
        return cls(
            ids_T=torch.from_numpy(ids.values.to_numpy(zero_copy_only=False).astype(np.int64)),
            types_T=torch.from_numpy(types.values.to_numpy(zero_copy_only=False).astype(np.int64))
            if has_types
            else None,
            starts_N1=torch.from_numpy(starts - starts[0]),
            labels_N=torch.from_numpy(labels_of(table)),
            pad_id=pad_id,
        )

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def lengths_N(self) -> Tensor:
        """(N,) tokens of each row."""
        return self.starts_N1[1:] - self.starts_N1[:-1]

    @property
    def labelled_N(self) -> Tensor:
        """(N,) bool: rows with a label."""
        if self.labels_N.dtype == torch.float32:
            return ~self.labels_N.isnan()
        return self.labels_N != UNLABELLED_CLASS

    def to(self, device: torch.device | str) -> Rows:
        """The same rows, resident on `device`."""
        types = None if self.types_T is None else self.types_T.to(device)
        return Rows(
            ids_T=self.ids_T.to(device),
            types_T=types,
            starts_N1=self.starts_N1.to(device),
            labels_N=self.labels_N.to(device),
            pad_id=self.pad_id,
        )

    def take(self, rows_B: Tensor) -> Rows:
        """Some of the rows, in that order, on the same device."""
        rows_B = rows_B.to(self.starts_N1.device)
        lengths_B = self.lengths_N[rows_B]
        starts_B1 = torch.cat([lengths_B.new_zeros(1), lengths_B.cumsum(0)])
        shift_B = self.starts_N1[rows_B] - starts_B1[:-1]
        place_T = torch.arange(int(starts_B1[-1]), device=rows_B.device)
        place_T = place_T + shift_B.repeat_interleave(lengths_B)
        types = None if self.types_T is None else self.types_T[place_T]
        return Rows(
            ids_T=self.ids_T[place_T],
            types_T=types,
            starts_N1=starts_B1,
            labels_N=self.labels_N[rows_B],
            pad_id=self.pad_id,
        )

    def packed(self, rows_B: Tensor, lengths_B: Tensor, first_position: int = 0) -> Packed:
        """Gather rows as model inputs, one behind the other without padding.

        Args:
            rows_B: (B,) row numbers, on the device of these rows.
            lengths_B: (B,) their tokens, on the CPU: sizes are known without a synchronisation.
            first_position: position of a row's first token.

        Returns:
            input_ids, position_ids and, where there are any, token_type_ids: (1, T) int64; and by
            the names of `transformers`' FlashAttention where rows begin and end, (B + 1,) int32,
            and the longest's tokens.
        """
        tokens, longest = int(lengths_B.sum()), int(lengths_B.max())
        start_B = self.starts_N1[rows_B]
        length_B = self.starts_N1[rows_B + 1] - start_B
        end_B1 = torch.cat([length_B.new_zeros(1), length_B.cumsum(0)])

        def spread(value_B: Tensor) -> Tensor:
            return value_B.repeat_interleave(length_B, output_size=tokens)

        place_T = torch.arange(tokens, device=rows_B.device)
        index_T = place_T + spread(start_B - end_B1[:-1])
        inputs: Packed = {
            "input_ids": self.ids_T[index_T].unsqueeze(0),
            "position_ids": (place_T - spread(end_B1[:-1]) + first_position).unsqueeze(0),
        }
        if self.types_T is not None:
            inputs["token_type_ids"] = self.types_T[index_T].unsqueeze(0)
        ends, most = end_B1.to(torch.int32), longest
        return inputs | {
            "cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": most, "max_length_k": most
        }  # fmt: skip

    def batch(self, rows_B: Tensor, length: int) -> dict[str, Tensor]:
        """Gather rows as model inputs padded on the right to `length` tokens.

        Args:
            rows_B: (B,) row numbers, on the device of these rows.
            length: at least the longest of them; given by the caller, who knows it without a
                device synchronisation.

        Returns:
            input_ids, attention_mask and, where there are any, token_type_ids: (B, length) int64.
        """
        start_B1 = self.starts_N1[rows_B].unsqueeze(1)
        length_B1 = self.starts_N1[rows_B + 1].unsqueeze(1) - start_B1
        place_S = torch.arange(length, device=rows_B.device)
        mask_BS = place_S < length_B1
        index_BS = (start_B1 + place_S).clamp_(max=len(self.ids_T) - 1)
        inputs = {
            "input_ids": torch.where(mask_BS, self.ids_T[index_BS], self.pad_id),
            "attention_mask": mask_BS.long(),
        }
        if self.types_T is not None:
            inputs["token_type_ids"] = torch.where(mask_BS, self.types_T[index_BS], 0)
        return inputs


def starts_of(inputs: Packed) -> Tensor | None:
    """(B,) places of the first tokens of packed rows; None for padded ones."""
    ends_B1: Tensor | None = inputs.get("cu_seq_lens_q")
    return None if ends_B1 is None else ends_B1[:-1]


def spread_rows(total: int, wanted: int) -> Tensor:
    """(N,) int64: `wanted` different rows, evenly spaced over `total`; all when there are fewer."""
    kept = min(total, wanted)
    return torch.arange(kept) * total // max(kept, 1)


def batches_of(rows: Rows, rows_N: Tensor, batch_size: int) -> list[dict[str, Tensor]]:
    """Model inputs of the chosen rows, in their order, each batch padded to its longest row."""
    lengths_N = rows.lengths_N
    return [rows.batch(rows_B, int(lengths_N[rows_B].max())) for rows_B in rows_N.split(batch_size)]


def labels_of(table: Any) -> np.ndarray[Any, Any]:
    """(rows,) labels of an Arrow table: int64 with -100, or float32 with NaN, where unlabelled."""
    import pyarrow as pa

    column = table["label"].combine_chunks()
    if pa.types.is_integer(column.type):
        return np.asarray(column.fill_null(UNLABELLED_CLASS)).astype(np.int64)
    return np.asarray(column.fill_null(float("nan"))).astype(np.float32)


def training_batches(lengths_N: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Shuffled batches of rows of similar length; a function of its arguments alone.

    Rows are permuted, cut into groups of `GROUP_BATCHES` batches, sorted by length within a group,
    cut into batches, and the batches are permuted. Every row occurs once an epoch.

    Returns:
        (B,) int64 row numbers per batch; the last batch may be smaller.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths_N), generator=generator)
    groups = [
        group[lengths_N[group].argsort(stable=True)]
        for group in order.split(batch_size * GROUP_BATCHES)
    ]
    batches = [batch for group in groups for batch in group.split(batch_size)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator)]


def sorted_batches(lengths_N: Tensor, batch_size: int) -> list[Tensor]:
    """Batches for evaluation: all rows, longest first, so that padding is nearly nothing."""
    return list(lengths_N.argsort(descending=True, stable=True).split(batch_size))


def on_device(batches: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The row numbers of batches, in one transfer for all of them."""
    if not batches:
        return ()
    together = torch.cat(list(batches)).to(device)
    return torch.split(together, [len(batch) for batch in batches])


BATCH_COST = 64
"""Tokens that a batch of the teacher costs beside its own: few, so there is little padding."""


def token_budget_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Batches for the teacher, at most `batch_tokens` padded tokens each, with next to no padding.

    Rows are sorted by length and cut between two lengths so that padded tokens plus `BATCH_COST`
    for each batch are fewest. A row longer than the budget is a batch of its own.
    """
    rows_of: dict[int, list[int]] = {}
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        rows_of.setdefault(lengths[row], []).append(row)
    batches: list[list[int]] = []
    for group in _cheapest_groups({n: len(rows) for n, rows in rows_of.items()}, batch_tokens):
        rows = [row for length in group for row in rows_of[length]]
        most = max(1, batch_tokens // group[-1])
        batches += [rows[first : first + most] for first in range(0, len(rows), most)]
    return batches


def _cheapest_groups(counts: dict[int, int], batch_tokens: int) -> list[list[int]]:
    """Runs of neighbouring lengths that are batched together, by dynamic programming.

    Args:
        counts: rows of each length, the lengths ascending.
        batch_tokens: as above.
    """
    lengths = list(counts)
    cheapest, begins = (
        [0],
        [0],
    )  # of the first `end` lengths: their cost, and where the last run begins
    for end in range(1, len(lengths) + 1):
        longest, rows, costs = lengths[end - 1], 0, []
        for begin in reversed(range(end)):
            rows += counts[lengths[begin]]
            batches = -(-rows // max(1, batch_tokens // longest))
            costs.append((cheapest[begin] + rows * longest + BATCH_COST * batches, begin))
        cost, begin = min(costs)
        cheapest.append(cost)
        begins.append(begin)
    groups: list[list[int]] = []
    end = len(lengths)
    while end:
        groups.insert(0, lengths[begins[end] : end])
        end = begins[end]
    return groups
