"""Several small axes in one picture, in columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.report.figures.svg import FONT_SIZE, POINTS_PER_INCH, WIDTH
from pipeline.report.palette import TEXT

HEADING = 24.0  # units above the first row, for the title of the whole


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Units around each axes, inside its cell."""

    left: float = 30.0
    right: float = 8.0
    top: float = 22.0
    bottom: float = 24.0


@dataclass(frozen=True)
class Facets:
    """A figure and its axes, row by row."""

    figure: Any
    axes: list[Any]
    height: float


def facets(
    count: int, *, columns: int, cell: float, margins: Margins, below: float = 0.0
) -> Facets:
    """Axes in equal cells.

    Args:
        count: of axes, at least one.
        columns: cells side by side.
        cell: height of a cell in units, margins included.
        margins: inside of each cell.
        below: units under the last row, for a label of all.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    wide, height = WIDTH / columns, HEADING + rows * cell + below
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH))
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        bottom = below + (rows - 1 - row) * cell + margins.bottom
        size = (wide - margins.left - margins.right, cell - margins.top - margins.bottom)
        left = column * wide + margins.left
        box = (left / WIDTH, bottom / height, size[0] / WIDTH, size[1] / height)
        axes.append(figure.add_axes(box))
    return Facets(figure, axes, height)


def name_facet(axes: Any, text: str, color: str = TEXT.light, beside: str = "") -> None:
    """A heading over an axes, and a value at its right end."""
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": FONT_SIZE}
    axes.annotate(text, (0, 1), (0, 6), color=color, fontweight="bold", **place)
    axes.annotate(beside, (1, 1), (0, 6), ha="right", **place)
