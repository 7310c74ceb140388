"""A cache's shards as Arrow tables, with the digests that their columns must have.

Shapes: R rows of a shard, L layers exported, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.digests import digest_array
from pipeline.store.examples import schema as examples_schema
from pipeline.store.format import CLS, LOGITS
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache

SPLIT = "split"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard of the cache = one row group of the file."""

    split: str
    rows: slice
    examples: Any
    """`pyarrow.Table` of R rows."""
    logits: Array
    """(R, K) float32."""
    cls: Array
    """(R, L, H): float16 or float32 as stored, float32 from int8."""
    digests: dict[str, str]
    """Column -> digest of its values."""


def table_schema(manifest: Manifest, layers: Sequence[int]) -> Any:
    """Columns and types of an export."""
    import pyarrow as pa

    number = pa.float16() if manifest.dtype == "float16" else pa.float32()
    vectors = [(f"layer_{n}", pa.list_(number, manifest.hidden_size)) for n in layers]
    return pa.schema(
        [
            (SPLIT, pa.string()),
            *examples_schema(regression=not manifest.task["label_names"]),
            (LOGITS, pa.list_(pa.float32(), manifest.outputs)),
            *vectors,
        ]
    )


def shards_of(
    cache: TeacherCache, layers: tuple[int, ...], splits: Sequence[str]
) -> Iterator[Shard]:
    """Every shard of some splits; each value was compared with its digest by the reader."""
    for split in splits:
        examples, logits = cache.examples(split), cache.logits(split)
        for number, (rows, stored) in enumerate(cache.shards(split, layers)):
            cls = stored.decode()
            yield Shard(
                split=split,
                rows=rows,
                examples=examples.slice(rows.start, rows.stop - rows.start),
                logits=logits[rows],
                cls=cls,
                digests=_digests(cache.manifest, split, number, layers, cls),
            )


def _digests(
    manifest: Manifest, split: str, shard: int, layers: tuple[int, ...], cls: Array
) -> dict[str, str]:
    """What the columns of a shard must read back as: the manifest's own digests.

    int8 is exported as float32, which the manifest has no digest of; those are taken here, of
    values whose int8 and scales the reader has checked.
    """
    known = manifest.row_digests[split]
    found = {LOGITS: known[LOGITS][shard][0]}
    for place, layer in enumerate(layers):
        if manifest.dtype == "int8":
            found[f"layer_{layer}"] = digest_array(cls[:, place])
        else:
            found[f"layer_{layer}"] = known[CLS][shard][manifest.layers.index(layer)]
    return found


def to_table(shard: Shard, schema: Any) -> Any:
    """A shard as a `pyarrow.Table` of that schema."""
    import pyarrow as pa

    names = [name for name in shard.digests if name != LOGITS]
    vectors = [shard.cls[:, place] for place in range(len(names))]
    columns = [
        pa.array([shard.split] * len(shard.logits), pa.string()),
        *shard.examples.columns,
        *(_fixed_size_lists(values) for values in (shard.logits, *vectors)),
    ]
    return pa.table(columns, schema=schema)


def _fixed_size_lists(values_RH: Array) -> Any:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values_RH).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values_RH.shape[1])
