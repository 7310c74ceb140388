"""Caches of made-up values, written through `CacheWriter`: no model, no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.digests import row_digest
from pipeline.store.examples import schema
from pipeline.store.plan import Plan, Share
from pipeline.store.shards import Layout
from pipeline.store.stored import encode_cls
from pipeline.store.writer import CacheWriter
from pipeline.tasks import BUILT_IN

ROWS, LAYERS, HIDDEN, SHARD = 37, (2, 3, 7), 5, 8


def described(layers: tuple[int, ...] = LAYERS, **changes: Any) -> dict[str, Any]:
    """The manifest's fields that a writer is told."""
    none = {
        "relative_l2_max": 0.0, "relative_l2_mean": 0.0,
        "cosine_distance_max": 0.0, "cosine_distance_mean": 0.0,
    }  # fmt: skip
    fields: dict[str, Any] = {
        "task": BUILT_IN["rte"].to_dict(),
        "teacher": {
            "name": "t", "digest": "d", "layers": 7, "output_order": [0, 1], "parameters": 1,
            "base": None, "scores": {}, "agreement": {},
        },
        "tokenizer": {"name": "t", "digest": "d", "pad_id": 0, "vocab_size": 9},
        "data_digest": "d",
        "max_length": 8,
        "compute": "float32",
        "versions": {},
        "measured_error": {
            "rows": 0, "logits_abs_max": 0.0, "layers": {str(layer): none for layer in layers},
        },
    }  # fmt: skip
    return fields | changes


def plan(**changes: Any) -> Plan:
    """A small plan; changes go to the layout or to the plan itself."""
    layout: dict[str, Any] = {
        "layers": LAYERS, "hidden_size": HIDDEN, "outputs": 2, "dtype": "float16",
        "shard_rows": SHARD, "out_of_fold": (),
    }  # fmt: skip
    own: dict[str, Any] = {"identity": {"teacher": "d"}, "batch_tokens": 64}
    layout = {key: changes.pop(key, value) for key, value in layout.items()}
    return Plan(**(own | changes), layout=Layout(**layout))


def examples(rows: int = ROWS) -> pa.Table:
    """Random tokens; ids that are neither 0..n-1 nor in order; some rows unlabelled."""
    draw = np.random.default_rng(0)
    ids = [draw.integers(1, 9, draw.integers(1, 8)).tolist() for _ in range(rows)]
    columns = {
        "example_id": draw.permutation(max(1000, 2 * rows))[:rows],
        "input_ids": ids,
        "token_type_ids": [[0] * len(row) for row in ids],
        "label": [int(place % 2) if place % 5 else None for place in range(rows)],
        "row_digest": [row_digest(row, [0] * len(row)) for row in ids],
    }
    return pa.table(columns, schema=schema(regression=False))


def values(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Logits (rows, 2) and [CLS] (rows, layers, hidden), float32."""
    draw = np.random.default_rng(1)
    shape = (rows, len(LAYERS), HIDDEN)
    return draw.normal(size=(rows, 2)).astype("f4"), draw.normal(size=shape).astype("f4")


def write(
    target: Path,
    *,
    rows: int = ROWS,
    stop_after: int | None = None,
    share: Share | None = None,
    **changes: Any,
) -> list[int]:
    """Build a cache; returns the shards that were written now."""
    logits, cls = values(rows)
    written: list[int] = []
    planned = plan(**changes)
    with CacheWriter(target, planned, share=share) as writer:
        writer.add_split("train", examples(rows))
        for shard in writer.unfinished("train"):
            if stop_after == len(written):
                raise KeyboardInterrupt
            place = writer.rows_of("train", shard)
            stored = encode_cls(cls[place], planned.layout.dtype, planned.layout.layers)
            unseen = -logits[place] if planned.layout.out_of_fold else None
            writer.write_shard("train", shard, logits[place], stored, out_of_fold=unseen)
            written.append(shard)
        if share:
            writer.publish_part(described(planned.layout.layers))
        else:
            writer.finish(described(planned.layout.layers))
    return written


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder: name -> content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
