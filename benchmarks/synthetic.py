"""Caches of random values, of any shape, written shard by shard: for speed and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 1000


def synthetic_cache(
    path: Path,
    *,
    rows: int,
    layers: int,
    hidden: int,
    length: int,
    dtype: str = "float16",
    shard_rows: int = 1024,
) -> None:
    """Write a cache of random tokens (at most `length` a row) and targets."""
    from pipeline.store.plan import Plan
    from pipeline.store.shards import Layout
    from pipeline.store.stored import encode_cls
    from pipeline.store.writer import CacheWriter

    draw = np.random.default_rng(0)
    layout = Layout(
        layers=tuple(range(1, layers + 1)), hidden_size=hidden, outputs=2, dtype=dtype,
        shard_rows=shard_rows,
    )  # fmt: skip
    with CacheWriter(path, Plan(identity={}, layout=layout, batch_tokens=1)) as writer:
        writer.add_split("train", _examples(draw, rows, length))
        for shard in writer.unfinished("train"):
            held = writer.rows_of("train", shard)
            count = held.stop - held.start
            cls = draw.standard_normal(size=(count, layers, hidden), dtype=np.float32)
            logits = draw.standard_normal(size=(count, 2), dtype=np.float32)
            writer.write_shard("train", shard, logits, encode_cls(cls, dtype, layout.layers))
        writer.finish(_described(layers, length))


def _examples(draw: np.random.Generator, rows: int, length: int) -> Any:
    import pyarrow as pa

    from pipeline.digests import row_digest
    from pipeline.store.examples import schema

    lengths = draw.integers(length // 3, length + 1, rows)
    ids = [draw.integers(5, VOCABULARY, size).tolist() for size in lengths]
    columns = {
        "example_id": range(rows),
        "input_ids": ids,
        "token_type_ids": [[0] * len(row) for row in ids],
        "label": draw.integers(0, 2, rows),
        "row_digest": [row_digest(row, [0] * len(row)) for row in ids],
    }
    return pa.table(columns, schema=schema(regression=False))


def _described(layers: int, length: int) -> dict[str, Any]:
    from pipeline.tasks import BUILT_IN

    names = ("relative_l2_max", "relative_l2_mean", "cosine_distance_max", "cosine_distance_mean")
    errors = {str(layer): dict.fromkeys(names, 0.0) for layer in range(1, layers + 1)}
    teacher = {
        "name": "random", "digest": "", "layers": layers, "output_order": [0, 1], "parameters": 0,
        "base": None, "scores": {}, "agreement": {},
    }  # fmt: skip
    return {
        "task": BUILT_IN["rte"].to_dict(),
        "teacher": teacher,
        "tokenizer": {"name": "random", "digest": "", "pad_id": 0, "vocab_size": VOCABULARY},
        "data_digest": "",
        "max_length": length,
        "compute": "float32",
        "versions": {},
        "measured_error": {"rows": 0, "layers": errors, "logits_abs_max": 0.0},
    }
