"""Heat maps of layer similarity: rows are student layers, columns teacher layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.report.figures.svg import WIDTH, drawing, panel, shortened, title, to_svg
from pipeline.report.formats import MINUS, counted
from pipeline.report.palette import TEXT
from pipeline.report.similarity import LayerSimilarity

CELL_HEIGHT = 27.0
TOP, BOTTOM, LEFT, RIGHT = 30.0, 48.0, 34.0, 8.0
NUMBERED_COLUMNS = 12  # more columns are too narrow for a number in each cell
GAP = 1.5  # units between cells


def shared_range(maps: Sequence[LayerSimilarity]) -> tuple[float, float]:
    """One colour scale for all maps of a task: from their lowest value, in tenths, to 1."""
    lowest = min(float(each.cosine_ML.min()) for each in maps)
    return max(-1.0, min(math.floor(lowest * 10) / 10, 0.9)), 1.0


def draw_similarity(found: LayerSimilarity, limits: tuple[float, float], *, slug: str) -> str:
    """One student's map; pairs that training matched are outlined."""
    depth, columns = found.cosine_ML.shape
    height = TOP + BOTTOM + CELL_HEIGHT * depth
    with drawing():
        figure, axes = panel(height, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM)
        title(figure, _name(found), height)
        _cells(axes, found, limits)
        _outline(axes, found)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(-0.5, depth - 0.5)
        axes.set_xticks(range(columns), [str(layer) for layer in found.teacher_layers])
        axes.set_yticks(range(depth), [str(layer + 1) for layer in range(depth)])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel("teacher layer", labelpad=1)
        axes.set_ylabel("student layer", labelpad=3)
        _scale(figure, limits, height)
        return to_svg(figure, slug)


def _name(found: LayerSimilarity) -> str:
    layers = counted(found.run.depth, "layer")
    return f"{shortened(found.run.strategy, 24)}, {layers}, seed {found.run.seed}"


def _cells(axes: Any, found: LayerSimilarity, limits: tuple[float, float]) -> None:
    from matplotlib.patches import Rectangle

    depth, columns = found.cosine_ML.shape
    wide = 1 - GAP * columns / (WIDTH - LEFT - RIGHT)
    high = 1 - GAP / CELL_HEIGHT
    for row in range(depth):
        for column in range(columns):
            value = float(found.cosine_ML[row, column])
            color = _color(value, limits)
            corner = (column - wide / 2, row - high / 2)
            axes.add_patch(Rectangle(corner, wide, high, facecolor=color, linewidth=0))
            if columns <= NUMBERED_COLUMNS:
                _number(axes, column, row, value, color, columns)


def _number(axes: Any, x: int, y: int, value: float, color: Any, columns: int) -> None:
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    axes.text(
        x,
        y,
        _short(value),
        ha="center",
        va="center",
        fontsize=8 if columns > 8 else 9,
        color="#000000" if luminance > 0.5 else "#ffffff",
    )


def _short(value: float) -> str:
    """`.87`, or `1.0`."""
    text = f"{value:.2f}".replace("-", MINUS)
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text[:-1]


def _outline(axes: Any, found: LayerSimilarity) -> None:
    from matplotlib.patches import Rectangle

    for student, teacher in found.run.layer_map:
        if teacher in found.teacher_layers and student <= len(found.cosine_ML):
            corner = (found.teacher_layers.index(teacher) - 0.5, student - 1.5)
            axes.add_patch(
                Rectangle(
                    corner,
                    1,
                    1,
                    facecolor="none",
                    edgecolor=TEXT.light,
                    linewidth=2.2,
                    clip_on=False,
                    zorder=5,
                )
            )


def _color(value: float, limits: tuple[float, float]) -> Any:
    from matplotlib import colormaps

    low, high = limits
    return colormaps["viridis"](min(max((value - low) / (high - low), 0.0), 1.0))


def _scale(figure: Any, limits: tuple[float, float], height: float) -> None:
    """A slim colour bar under the map."""
    from matplotlib.patches import Rectangle

    low, high = limits
    steps, left, width, bottom = 24, 120.0, 120.0, 6.0
    for step in range(steps):
        value = low + (high - low) * (step + 0.5) / steps
        corner = ((left + width * step / steps) / WIDTH, bottom / height)
        size = ((width / steps + 0.3) / WIDTH, 7 / height)
        figure.add_artist(Rectangle(corner, *size, facecolor=_color(value, limits), linewidth=0))
    at = {"va": "center", "fontsize": 9}
    middle = (bottom + 3.5) / height
    figure.text(
        (left - 6) / WIDTH, middle, f"cosine {low:.1f}".replace("-", MINUS), ha="right", **at
    )
    figure.text((left + width + 6) / WIDTH, middle, f"{high:.0f}", ha="left", **at)
