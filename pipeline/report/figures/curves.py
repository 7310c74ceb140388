"""Training curves: a term or a score by epoch, mean over seeds with a band of one deviation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.figures.svg import (
    EndLabel,
    drawing,
    end_labels,
    panel,
    room_for,
    shortened,
    title,
    to_svg,
)
from pipeline.report.palette import MUTED, Style
from pipeline.report.records import Epoch
from pipeline.report.tables import Group, Sample

HEIGHT = 236.0
DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
TERM_NAMES = {
    "ce": "labels: (1 − α) · CE",
    "kd": "logits: α · KD",
    "pt": "[CLS] layers: β · PT",
    "total": "whole loss",
}

Value = Callable[[Epoch], float | None]


@dataclass(frozen=True)
class Curve:
    """One group's values at the epochs that all of its runs have."""

    group: Group
    epochs: tuple[int, ...]
    samples: tuple[Sample, ...]


def curve_of(group: Group, value: Value) -> Curve | None:
    """Collect a value over epochs and seeds; None where a run lacks it altogether."""
    by_run = [
        {epoch.epoch: found for epoch in run.history if (found := value(epoch)) is not None}
        for run in group.runs
    ]
    epochs = sorted(set.intersection(*(set(each) for each in by_run)))
    if not epochs:
        return None
    samples = tuple(Sample(tuple(each[epoch] for each in by_run)) for epoch in epochs)
    return Curve(group, tuple(epochs), samples)


def draw_curves(
    curves: Sequence[Curve],
    styles: Mapping[str, Style],
    *,
    heading: str,
    slug: str,
    scale: float = 1.0,
    reference: tuple[float, str] | None = None,
) -> str:
    """Draw curves into one panel.

    Args:
        curves: at least one.
        styles: by strategy.
        heading: the panel's title.
        slug: unique on the page.
        scale: factor on the values; 100 for points.
        reference: a value and its label, drawn as a dashed line (the teacher).
    """
    labels = [shortened(curve.group.label, 16) for curve in curves]
    texts = [*labels, reference[1]] if reference else labels
    with drawing():
        figure, axes = panel(HEIGHT, left=34, right=room_for(texts))
        title(figure, heading, HEIGHT)
        ends = []
        for index, (curve, label) in enumerate(zip(curves, labels, strict=True)):
            style = styles[curve.group.strategy]
            _draw(axes, curve, style, scale, _dash(curves, index))
            last = curve.samples[-1].mean * scale
            ends.append(EndLabel(curve.epochs[-1], last, label, style.color))
        if reference:
            axes.axhline(
                reference[0] * scale, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3))
            )
        _epoch_axis(axes, curves)
        if reference:
            right = axes.get_xlim()[1]
            ends.append(EndLabel(right, reference[0] * scale, reference[1], MUTED.light))
        end_labels(axes, ends)
        return to_svg(figure, slug)


def _draw(axes: Any, curve: Curve, style: Style, scale: float, dash: Any) -> None:
    means = [sample.mean * scale for sample in curve.samples]
    spreads = [(sample.std or 0.0) * scale for sample in curve.samples]
    if curve.group.score.n > 1:
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(curve.epochs, low, high, color=style.color, alpha=0.13, linewidth=0)
    axes.plot(
        curve.epochs, means, color=style.color, linestyle=dash, marker=style.marker, markersize=4
    )


def _dash(curves: Sequence[Curve], index: int) -> Any:
    """Variants of one strategy share its colour and differ in their dashes."""
    strategy = curves[index].group.strategy
    earlier = sum(curve.group.strategy == strategy for curve in curves[:index])
    return DASHES[earlier % len(DASHES)]


def _epoch_axis(axes: Any, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(curve.epochs[-1] for curve in curves)
    axes.set_xlim(min(curve.epochs[0] for curve in curves) - 0.08, last + 0.08)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")
