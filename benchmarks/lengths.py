"""Real token lengths of GLUE tasks, as counts; rows of such lengths with random tokens.

    python -m benchmarks.lengths --glue DIR --tokenizer DIR

made `lengths.json`, with bert-base-uncased's vocabulary; special tokens counted, cut at 128.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.batches import Rows

LONGEST = 128
FILE = Path(__file__).with_name("lengths.json")
# folder and columns of text in train.tsv; CoLA's has no header
GLUE: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "rte": ("RTE", ("sentence1", "sentence2")),
    "mrpc": ("MRPC", ("#1 String", "#2 String")),
    "sst2": ("SST-2", ("sentence",)),
    "cola": ("CoLA", (3,)),
}


@cache
def histogram(task: str) -> dict[int, int]:
    """Training rows of a task by their length in tokens."""
    counts = json.loads(FILE.read_text("utf-8"))[task]
    return {int(length): count for length, count in counts.items()}


def all_lengths(task: str) -> torch.Tensor:
    """(N,) lengths of as many rows as the task has, in a drawn order."""
    counts = histogram(task)
    lengths = np.repeat(list(counts), list(counts.values()))
    return torch.from_numpy(np.random.default_rng(0).permutation(lengths).astype(np.int64))


def rows_of(lengths_N: torch.Tensor, vocabulary: int) -> Rows:
    """Rows of these lengths with random tokens and labels of two classes."""
    draw = torch.Generator().manual_seed(0)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths_N.cumsum(0)])
    tokens = torch.randint(5, vocabulary, (int(starts[-1]),), generator=draw)
    return Rows(
        ids_T=tokens, types_T=torch.zeros_like(tokens), starts_N1=starts,
        labels_N=torch.randint(0, 2, (len(lengths_N),), generator=draw), pad_id=0,
    )  # fmt: skip


def count_lengths(glue: Path, tokenizer: Any) -> dict[str, dict[str, int]]:
    """Read GLUE's own files and count."""
    found = {}
    for task, (folder, columns) in GLUE.items():
        texts = _columns(glue / folder / "train.tsv", columns)
        ids = tokenizer(*texts, truncation=True, max_length=LONGEST)["input_ids"]
        lengths, counts = np.unique([len(row) for row in ids], return_counts=True)
        found[task] = {str(n): int(c) for n, c in zip(lengths, counts, strict=True)}
    return found


def _columns(path: Path, columns: tuple[int | str, ...]) -> list[list[str]]:
    lines = [line.split("\t") for line in path.read_text("utf-8-sig").splitlines() if line]
    if isinstance(columns[0], str):
        header, *lines = lines
        return [[line[header.index(str(name))] for line in lines] for name in columns]
    return [[line[int(place)] for line in lines] for place in columns]


def main() -> None:
    """Write lengths.json."""
    from pipeline.models.load import load_tokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--glue", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    given = parser.parse_args()
    found = count_lengths(given.glue, load_tokenizer(given.tokenizer))
    lines = [f'  "{task}": {json.dumps(counts)}' for task, counts in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
