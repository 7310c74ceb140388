"""The probe curve: what a linear classifier reads from each teacher layer."""

from __future__ import annotations

from pipeline.report.figures.svg import (
    EndLabel,
    drawing,
    end_labels,
    panel,
    room_for,
    title,
    to_svg,
)
from pipeline.report.palette import STYLES
from pipeline.report.probes import ProbeCurve

HEIGHT = 220.0
HELD_OUT, VALIDATION = "held-out train", "validation"


def draw_probes(found: ProbeCurve, *, slug: str) -> str:
    """Held-out and, where known, validation score by layer."""
    lines = [(HELD_OUT, STYLES["skip"], list(zip(found.layers, found.held_out, strict=True)))]
    seen = [(x, y) for x, y in zip(found.layers, found.validation, strict=True) if y is not None]
    if seen:
        lines.append((VALIDATION, STYLES["kd"], seen))
    with drawing():
        figure, axes = panel(HEIGHT, left=34, right=room_for([name for name, *_ in lines]))
        title(figure, f"Probe {found.metric} ×100, by teacher layer", HEIGHT)
        ends = []
        for name, style, points in lines:
            x, y = [point[0] for point in points], [100 * point[1] for point in points]
            axes.plot(x, y, color=style.color, marker=style.marker, markersize=5)
            ends.append(EndLabel(x[-1], y[-1], name, style.color))
        axes.set_xticks(found.layers)
        axes.set_xlim(found.layers[0] - 0.2, found.layers[-1] + 0.2)
        axes.set_xlabel("teacher layer")
        end_labels(axes, ends)
        return to_svg(figure, slug)
