"""Latency and throughput by batch size: a column per length, a line per model and runtime."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bench.contenders import TEACHER, Contender
from pipeline.bench.measure import Timing
from pipeline.report.figures.svg import (
    FONT_SIZE,
    LABEL_GAP,
    POINTS_PER_INCH,
    EndLabel,
    drawing,
    end_labels,
    room_for,
    shortened,
)
from pipeline.report.formats import counted
from pipeline.report.palette import MUTED, SPARE, STYLES, TEXT

COLUMN, LEFT, GAP = 250.0, 50.0, 46.0  # widths in units: an axes, its left margin, between two
HEAD, FOOT, BETWEEN = 46.0, 54.0, 68.0
LEAST_HEIGHT = 150.0
LABEL_CHARACTERS = 34
ASIDE = 0.05  # doublings of the batch size, between neighbours, so that their lines can be told
DPI = 200
INKS = [style.ink for style in (*(STYLES[n] for n in ("skip", "kd", "last", "emd")), *SPARE)]
LINES = {"pytorch": ("-", "o"), "float32": ((0, (5, 2)), "s"), "int8": ((0, (1, 1.6)), "D")}
"""How a runtime is drawn: its line, and its marker."""


def draw_bench(
    contenders: Sequence[Contender], timings: Sequence[Timing], machine: Mapping[str, Any]
) -> bytes:
    """A PNG: the time of a call above, rows a second below.

    Args:
        contenders: in the order of the labels.
        timings: of every contender, batch size and length.
        machine: what the record says of it.
    """
    lengths = sorted({each.length for each in timings})
    labels = {each.name: shortened(each.name, LABEL_CHARACTERS) for each in contenders}
    colors = _colors(contenders)
    height = max(LEAST_HEIGHT, LABEL_GAP * (len(contenders) + 1))
    with drawing():
        figure, axes = _grid(len(lengths), height, room_for(list(labels.values())))
        for column, length in enumerate(lengths):
            shown = [each for each in timings if each.length == length]
            upper, lower = axes[0][column], axes[1][column]
            ends = []
            for place, each in enumerate(contenders):
                aside = 2 ** (ASIDE * (place - (len(contenders) - 1) / 2))
                mine = [t for t in shown if t.name == each.name]
                look = _look(each, colors[each.digest])
                ends.append(_lines(upper, lower, mine, look, labels[each.name], aside))
            _frame(upper, lower, length, shown)
            if column == len(lengths) - 1:
                end_labels(upper, [high for high, _ in ends])
                end_labels(lower, [low for _, low in ends])
        _titles(figure, axes[0][0], axes[1][0], machine)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": ""})
    return buffer.getvalue()


def _grid(columns: int, height: float, right: float) -> tuple[Any, list[list[Any]]]:
    """A figure of two rows of axes, those of the upper row with one scale."""
    from matplotlib.figure import Figure

    width = LEFT + columns * COLUMN + (columns - 1) * GAP + right
    whole = HEAD + 2 * height + BETWEEN + FOOT
    figure = Figure(figsize=(width / POINTS_PER_INCH, whole / POINTS_PER_INCH))
    rows: list[list[Any]] = []
    for bottom, one_scale in ((FOOT + height + BETWEEN, True), (FOOT, False)):
        row: list[Any] = []
        for column in range(columns):
            left = LEFT + column * (COLUMN + GAP)
            box = (left / width, bottom / whole, COLUMN / width, height / whole)
            row.append(figure.add_axes(box, sharey=row[0] if row and one_scale else None))
        rows.append(row)
    return figure, rows


def _colors(contenders: Sequence[Contender]) -> dict[str, str]:
    """A colour per model, by digest: an export has that of its student, the teacher is black."""
    colors = {each.digest: TEXT.light for each in contenders if each.role == TEACHER}
    for each in contenders:
        taken = len(colors) - sum(color == TEXT.light for color in colors.values())
        colors.setdefault(each.digest, INKS[taken % len(INKS)].light)
    return colors


def _look(each: Contender, color: str) -> dict[str, Any]:
    line, marker = LINES[each.runtime]
    return {"color": color, "linestyle": line, "marker": marker, "markersize": 4.5}


def _lines(
    upper: Any, lower: Any, mine: Sequence[Timing], look: dict[str, Any], text: str, aside: float
) -> tuple[EndLabel, EndLabel]:
    """Draw one contender, a little aside of its place; its labels beside both axes."""
    ordered = sorted(mine, key=lambda t: t.batch_size)
    x = [aside * t.batch_size for t in ordered]
    medians, color = [t.p50_ms for t in ordered], look["color"]
    upper.vlines(x, medians, [t.p95_ms for t in ordered], color=color, linewidth=1)
    upper.plot(x, medians, **look)
    lower.plot(x, [t.rows_per_second for t in ordered], **look)
    last = ordered[-1]
    return (
        EndLabel(x[-1], last.p50_ms, text, color),
        EndLabel(x[-1], last.rows_per_second, text, color),
    )


def _frame(upper: Any, lower: Any, length: int, shown: Sequence[Timing]) -> None:
    """Scales, ticks and headings of one column."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    sizes = sorted({each.batch_size for each in shown})
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    upper.yaxis.set_minor_locator(NullLocator())
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for axes in (upper, lower):
        axes.set_xscale("log", base=2)
        axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{length} tokens", loc="left", fontsize=FONT_SIZE, color=MUTED.light, pad=5)
    lower.set_xlabel("rows a call")


def _titles(figure: Any, upper: Any, lower: Any, machine: Mapping[str, Any]) -> None:
    """A heading above each row of axes, and the machine at the foot."""
    bold = {"fontweight": "bold", "fontsize": FONT_SIZE + 1}
    units = POINTS_PER_INCH * figure.get_figwidth(), POINTS_PER_INCH * figure.get_figheight()
    for axes, text in (
        (upper, "Time of a call in ms: the median, and a line up to the 95th percentile"),
        (lower, "Rows a second"),
    ):
        top = axes.get_position().y1 + 24 / units[1]
        figure.text(4 / units[0], top, text, **bold)
    load = machine["load_before"]
    cores, threads = counted(machine["cores"], "core"), counted(machine["threads"], "thread")
    figure.text(
        4 / units[0],
        8 / units[1],
        f"{machine['processor']}, {cores}, {threads} a call"
        + (f", load {load:.1f} before" if load is not None else ""),
        color=MUTED.light,
        fontsize=FONT_SIZE - 1,
    )
