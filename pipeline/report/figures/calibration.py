"""Reliability diagrams: how often a model is right, by how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report import formats
from pipeline.report.answers.calibration import Reliability
from pipeline.report.figures.facets import Margins, facets, name_facet
from pipeline.report.figures.svg import drawing, shortened, title, to_svg
from pipeline.report.palette import MUTED, Style

CELL, BELOW = 150.0, 16.0
LARGEST_DOT = 150.0  # area, in square points, of a bin with all rows


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """One model."""

    name: str
    found: Reliability
    error: float
    """ECE: of several seeds, the mean of theirs."""
    style: Style


def draw_reliability(diagrams: Sequence[Diagram], least: float, *, heading: str, slug: str) -> str:
    """A small diagram for each model, two side by side.

    Args:
        diagrams: at least one.
        least: the smallest confidence that can be, 1 / classes.
        heading: the picture's title.
        slug: unique on the page.
    """
    with drawing():
        made = facets(len(diagrams), columns=2, cell=CELL, margins=Margins(), below=BELOW)
        title(made.figure, heading, made.height)
        for axes, diagram in zip(made.axes, diagrams, strict=True):
            _draw(axes, diagram, 100 * least)
        where = {"ha": "center", "color": MUTED.light}
        made.figure.text(0.5, 5 / made.height, "confidence, ×100", **where)
        return to_svg(made.figure, slug)


def _draw(axes: Any, diagram: Diagram, least: float) -> None:
    found, color = diagram.found, diagram.style.color
    full = found.rows_B > 0
    sure, right = 100 * found.confidence_B[full], 100 * found.accuracy_B[full]
    axes.plot([least, 100], [least, 100], color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
    axes.fill_between(sure, sure, right, color=color, alpha=0.14, linewidth=0)
    axes.plot(sure, right, color=color, linewidth=1.2)
    areas = 6 + LARGEST_DOT * found.rows_B[full] / found.rows_B.sum()
    axes.scatter(sure, right, s=areas, color=color, alpha=0.85, linewidths=0, zorder=3)
    axes.set_xlim(least - 2, 103)
    axes.set_ylim(min(least, float(np.min(right))) - 4, 105)
    axes.set_xticks(_ticks(least))
    axes.set_yticks(_ticks(0.0 if np.min(right) < least - 10 else least))
    ece = f"ECE{formats.KEEP}{formats.points(diagram.error)}"
    name_facet(axes, shortened(diagram.name, 16), color, beside=ece)


def _ticks(least: float) -> list[float]:
    return [0, 25, 50, 75, 100] if least < 40 else [50, 75, 100]
