"""What a manifest tells beyond its own fields: sizes, shares and ratios. Pure Python."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pipeline.store.format import CLS, ITEM_BYTES, METADATA

if TYPE_CHECKING:  # a command's --help needs no manifest
    from pipeline.store.manifest import Manifest


def derive(manifest: Manifest) -> dict[str, Any]:
    """Figures that follow from a manifest, as plain JSON values.

    Returns:
        total_bytes: of all files but the manifest; raw_bytes: of the arrays' values before
        compression; ratio: raw bytes of the arrays by those on disk;
        parts: bytes on disk by kind (each array, examples, metadata);
        layers: "1".. -> bytes on disk, raw_bytes, ratio, share (of total_bytes), over all splits;
        splits: name -> mean_tokens of a row, unlabelled_rows.
    """
    parts = _bytes_by_kind(manifest)
    specs = [spec for split in manifest.splits for spec in manifest.specs(split).values()]
    raw_bytes = sum(spec.raw_bytes for spec in specs)
    on_disk = sum(parts[name] for name in {spec.name for spec in specs})
    return {
        "total_bytes": manifest.total_bytes,
        "raw_bytes": raw_bytes,
        "ratio": raw_bytes / on_disk,
        "parts": parts,
        "layers": _layers(manifest),
        "splits": {
            name: {
                "mean_tokens": split.tokens / split.rows,
                "unlabelled_rows": split.rows - split.labelled_rows,
            }
            for name, split in manifest.splits.items()
        },
    }


def length_bins(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Rows by length in tokens: "9-16" -> split -> rows, by increasing length.

    Bins that a split does not have are not in its part; see `Split.length_histogram`.
    """
    uppers = {int(key) for split in manifest.splits.values() for key in split.length_histogram}
    return {
        f"{upper // 2 + 1}-{upper}" if upper > 2 else str(upper): {
            name: split.length_histogram[str(upper)]
            for name, split in manifest.splits.items()
            if str(upper) in split.length_histogram
        }
        for upper in sorted(uppers)
    }


def split_order(names: Collection[str]) -> list[str]:
    """Split names as people list them: train, then validation, then test."""
    kinds = ("train", "validation", "test")
    return sorted(names, key=lambda name: ([not name.startswith(kind) for kind in kinds], name))


def _bytes_by_kind(manifest: Manifest) -> dict[str, int]:
    """Bytes of files: of each array's data, of the examples and of Zarr's metadata."""
    found: dict[str, int] = {}
    for name, size in manifest.sizes.items():
        kind = METADATA if name.endswith(METADATA) else name.split("/")[1]
        found[kind] = found.get(kind, 0) + size
    return found


def _layers(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """[CLS] of each layer; the scales of int8 and the shards' indexes are left out."""
    by_split = [manifest.arrays[f"{split}/{CLS}"]["layer_bytes"] for split in manifest.splits]
    rows = sum(split.rows for split in manifest.splits.values())
    raw = rows * manifest.hidden_size * ITEM_BYTES[manifest.dtype]
    return {
        str(layer): {
            "bytes": size,
            "raw_bytes": raw,
            "ratio": raw / size,
            "share": size / manifest.total_bytes,
        }
        for layer, size in zip(manifest.layers, map(sum, zip(*by_split, strict=True)), strict=True)
    }
