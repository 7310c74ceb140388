"""The share of padding among the tokens of both stages, on the lengths of real tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from benchmarks.lengths import GLUE, LONGEST, all_lengths
from benchmarks.setting import Setting
from pipeline.batches import token_budget_batches, training_batches
from pipeline.params import CacheParams, StudentParams

EPOCHS = 3


def measure_padding(setting: Setting) -> list[dict[str, Any]]:
    """Shares for every task; counted, not timed."""
    tasks = ["rte"] if setting.quick else list(GLUE)
    return [{"task": task, **padding_of(all_lengths(task))} for task in tasks]


def padding_of(lengths_N: torch.Tensor) -> dict[str, Any]:
    """Padded share of tokens: stage one, stage two, random batches, everything padded to 128."""
    size = StudentParams().batch_size
    draw = torch.Generator().manual_seed(0)
    epochs = range(1, EPOCHS + 1)
    ours = [lengths_N[b] for n in epochs for b in training_batches(lengths_N, size, 0, n)]
    drawn = [lengths_N[torch.randperm(len(lengths_N), generator=draw)] for _ in epochs]
    return {
        "rows": len(lengths_N),
        "mean_length": float(lengths_N.float().mean()),
        "stage_one": padded_share(stage_one(lengths_N, CacheParams().batch_tokens)),
        "stage_two": padded_share(batch.tolist() for batch in ours),
        "random": padded_share(b.tolist() for order in drawn for b in order.split(size)),
        "padded_to_128": 1 - float(lengths_N.float().mean()) / LONGEST,
    }


def stage_one(lengths_N: torch.Tensor, budget: int) -> Iterable[list[int]]:
    """Lengths batch by batch, shard by shard, as a build of `--batch-tokens budget` makes them."""
    for shard in lengths_N.split(CacheParams().shard_rows):
        lengths = shard.tolist()
        for batch in token_budget_batches(lengths, budget):
            yield [lengths[row] for row in batch]


def padded_share(batches: Iterable[Sequence[int]]) -> float:
    """Share of padding when every batch is padded to its longest row."""
    tokens = places = 0
    for lengths in batches:
        tokens += sum(lengths)
        places += len(lengths) * max(lengths)
    return 1 - tokens / places
