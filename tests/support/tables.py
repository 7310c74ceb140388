"""Caches of a table of the test's own: any rows, labels, values and splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.digests import row_digest
from pipeline.store.examples import schema
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import encode_cls
from pipeline.store.writer import CacheWriter
from tests.support import synthetic

Values = tuple[np.ndarray, np.ndarray]


def table_of(
    rows: Sequence[list[int]],
    labels: Sequence[float | None],
    *,
    types: bool = True,
    regression: bool = False,
) -> pa.Table:
    """Rows of tokens with ids 0, 1, ...; without token types as for RoBERTa."""
    kinds = [[0] * len(ids) if types else None for ids in rows]
    columns = {
        "example_id": list(range(len(rows))),
        "input_ids": rows,
        "token_type_ids": kinds,
        "label": labels,
        "row_digest": [row_digest(*each) for each in zip(rows, kinds, strict=True)],
    }
    return pa.table(columns, schema=schema(regression=regression))


def write_table(
    target: Path,
    table: pa.Table,
    values: Values | None = None,
    *,
    splits: Sequence[str] = ("train",),
    fields: dict[str, Any] | None = None,
    **changes: Any,
) -> TeacherCache:
    """Write a cache whose splits all hold this table.

    Args:
        target: the cache's folder.
        table: of the rows.
        values: logits and [CLS], float32; None = made up.
        splits: their names.
        fields: of the manifest, see `synthetic.described`.
        changes: to the plan or its layout, see `synthetic.plan`.
    """
    planned = synthetic.plan(**changes)
    layout = planned.layout
    logits, cls = values or synthetic.values(table.num_rows)
    with CacheWriter(target, planned) as writer:
        for split in splits:
            writer.add_split(split, table)
            for shard in writer.unfinished(split):
                rows = writer.rows_of(split, shard)
                stored = encode_cls(cls[rows], layout.dtype, layout.layers)
                writer.write_shard(split, shard, logits[rows, : layout.outputs], stored)
        writer.finish(synthetic.described(layout.layers) | (fields or {}))
    return TeacherCache.open(target)
