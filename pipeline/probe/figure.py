"""The probe curve: score by depth, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.probe.layers import LayerProbe

INK, SOFT = "#1f6f8b", "#c98a2b"


def draw_probe(found: Sequence[LayerProbe], metric: str, path: Path) -> None:
    """Draw both curves into a file whose ending names the format (.png, .svg, .pdf)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    layers = [each.layer for each in found]
    axes.plot(layers, [e.held_out for e in found], "o-", color=INK, label="held-out fifth of train")
    seen = [(e.layer, e.validation) for e in found if e.validation is not None]
    if seen:
        axes.plot(*zip(*seen, strict=True), "s--", color=SOFT, label="validation")
    axes.set_xticks(layers)
    axes.set_xlabel("teacher layer")
    axes.set_ylabel(f"{metric} of a linear probe on [CLS]")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
