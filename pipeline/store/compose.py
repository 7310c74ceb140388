"""The manifest of a finished build, made of the records of its shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.store.format import CLS, METADATA, split_files
from pipeline.store.manifest import Manifest, Split
from pipeline.store.plan import Plan

Records = Mapping[str, list[dict[str, Any]]]  # of every shard of a split, in order


def compose_manifest(
    plan: Plan,
    splits: dict[str, Split],
    records: Records,
    described: dict[str, Any],
    settle: Callable[[str], dict[str, Any]],
) -> Manifest:
    """All that a manifest says.

    Args:
        plan: of the build.
        splits: sizes of every split.
        records: see `pipeline.store.shards.ShardFiles.record`.
        described: the fields that only who builds knows: teacher, tokenizer, scores, ...
        settle: makes a file that no record names durable, and returns its entry.

    Returns:
        The manifest with its own digest.
    """
    layout = plan.layout
    row_digests = {
        split: {array: [r["digests"][array] for r in of_split] for array in layout.specs(split, 1)}
        for split, of_split in records.items()
    }
    reused = sum(r["reused"] for of_split in records.values() for r in of_split)
    return Manifest(
        layers=layout.layers,
        hidden_size=layout.hidden_size,
        outputs=layout.outputs,
        dtype=layout.dtype,
        shard_rows=layout.shard_rows,
        batch_tokens=plan.batch_tokens,
        splits=splits,
        arrays=_arrays(plan, splits, records),
        reused={"rows": reused, "content_digest": plan.reuse},
        row_digests=row_digests,
        files=_files(plan, splits, records, settle),
        cache_id=plan.cache_id,
        **described,
    ).sealed()


def _arrays(plan: Plan, splits: dict[str, Split], records: Records) -> dict[str, dict[str, Any]]:
    arrays: dict[str, dict[str, Any]] = {}
    for split, info in splits.items():
        for name, spec in plan.layout.specs(split, info.rows).items():
            arrays[f"{split}/{name}"] = {"shape": list(spec.shape), "dtype": spec.dtype}
        sizes = [record["layer_bytes"] for record in records[split]]
        totals = [sum(of_layer) for of_layer in zip(*sizes, strict=True)]
        arrays[f"{split}/{CLS}"]["layer_bytes"] = totals
    return arrays


def _files(
    plan: Plan,
    splits: dict[str, Split],
    records: Records,
    settle: Callable[[str], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    known = {
        name: entry
        for of_split in records.values()
        for record in of_split
        for name, entry in record["files"].items()
    }
    layout, names = plan.layout, [METADATA]
    for split, info in splits.items():
        optional = layout.optional(split)
        names.extend(split_files(split, info.rows, layout.shard_rows, layout.dtype, optional))
    return {name: known.get(name) or settle(name) for name in names}
