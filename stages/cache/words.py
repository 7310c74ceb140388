"""How commands describe a cache in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def summary_text(folder: Path, manifest: Any) -> str:
    """Rows, layers and size of a cache, in a line."""
    rows = ", ".join(f"{split} {info.rows:,}" for split, info in manifest.splits.items())
    return (
        f"{folder}: {rows} rows; layers {layers_text(manifest.layers)} x {manifest.hidden_size} "
        f"{manifest.dtype}; {manifest.total_bytes / 1e6:.1f} MB"
    )


def scores_lines(manifest: Any) -> list[str]:
    """The teacher's scores, a line per split."""
    return [
        f"  teacher on {split}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        for split, found in manifest.teacher["scores"].items()
    ]


def next_text(folder: Path) -> str:
    """What to do with a new cache."""
    return f"Next: pkd-student fit --cache {folder} --strategy skip"


def layers_text(layers: tuple[int, ...]) -> str:
    """`1..12`, or `4,8`."""
    contiguous = list(layers) == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1
    return f"{layers[0]}..{layers[-1]}" if contiguous else ",".join(str(each) for each in layers)
