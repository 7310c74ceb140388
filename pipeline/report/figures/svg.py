"""Matplotlib figures as small SVG texts: deterministic, self-contained, recoloured by CSS."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from pipeline.report.palette import GRID, MUTED, TEXT, all_inks

WIDTH = 360.0  # drawing units = CSS pixels on a phone, where text is shown at its own size
FONT_SIZE = 10.0
CHARACTER = 5.7  # mean width of a character at FONT_SIZE, in units
POINTS_PER_INCH = 72.0
LABEL_GAP = 12.5  # between the baselines of labels at the end of lines
LEADER = 12.0  # length of the hair line to a label

RC = {
    "axes.edgecolor": MUTED.light,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED.light,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.7,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.size": FONT_SIZE,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": TEXT.light,
    "text.parse_math": False,  # names are text: a $ in one is a dollar sign
    "xtick.color": MUTED.light,
    "xtick.labelsize": FONT_SIZE,
    "xtick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED.light,
    "ytick.labelsize": FONT_SIZE,
    "ytick.major.size": 0,
}


LEADER_LINE = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}


@dataclass(frozen=True)
class EndLabel:
    """A text that names the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with the report's look, whatever a person's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is no fault
        yield


def panel(
    height: float, *, left: float, right: float, top: float = 30.0, bottom: float = 34.0
) -> tuple[Any, Any]:
    """A figure of `WIDTH` x `height` units with one axes inside the given margins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH))
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height)
    return figure, figure.add_axes(box)


def title(figure: Any, text: str, height: float) -> None:
    """A bold line at the top left."""
    figure.text(2 / WIDTH, 1 - 13 / height, text, fontweight="bold", fontsize=FONT_SIZE + 1)


def room_for(labels: Sequence[str]) -> float:
    """Units that the longest label needs beside an axes."""
    return LEADER + 6.0 + CHARACTER * max((len(label) for label in labels), default=0)


def shortened(text: str, characters: int = 22) -> str:
    """A label that fits; the middle of a long one is left out."""
    clean = " ".join(text.split())
    if len(clean) <= characters:
        return clean
    head = (characters - 1) * 2 // 3
    return f"{clean[:head]}…{clean[head + 1 - characters :]}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart until neighbours are `gap` away from each other, keeping their order.

    Places that collide become a block centred on their mean, which may swallow its neighbours. All
    stay between `low` and `high` where there is room.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    blocks: list[tuple[float, int]] = []  # centre, members
    for index in order:
        blocks.append((_inside(places[index], 1, gap, low, high), 1))
        while len(blocks) > 1 and _collide(blocks[-2], blocks[-1], gap):
            (one, n), (other, m) = blocks[-2:]
            centre = (one * n + other * m) / (n + m)
            blocks[-2:] = [(_inside(centre, n + m, gap, low, high), n + m)]
    moved = [c + (i - (n - 1) / 2) * gap for c, n in blocks for i in range(n)]
    result = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        result[index] = place
    return result


def _inside(centre: float, members: int, gap: float, low: float, high: float) -> float:
    reach = (members - 1) / 2 * gap
    return max(min(centre, high - reach), low + reach)


def _collide(low: tuple[float, int], high: tuple[float, int], gap: float) -> bool:
    return high[0] - low[0] < gap * (low[1] + high[1]) / 2 - 1e-9


def end_labels(axes: Any, labels: Sequence[EndLabel]) -> None:
    """Write labels beside an axes, moved apart where they collide.

    A hair line leads from each point to its label.
    """
    right = axes.get_xlim()[1]  # settles the limits that the transforms below depend on
    low, high = sorted(_on_figure(axes, right, y)[1] for y in axes.get_ylim())
    ends = [_on_figure(axes, label.x, label.y) for label in labels]
    places = spread([y for _, y in ends], LABEL_GAP, low, high)
    start = _on_figure(axes, right, 0)[0]
    for label, end, place in zip(labels, ends, places, strict=True):
        axes.annotate(
            label.text,
            (label.x, label.y),
            (start - end[0] + LEADER + 2, place - end[1]),
            textcoords="offset points",
            va="center",
            color=label.color,
            annotation_clip=False,
        )
        axes.annotate(
            "",
            (label.x, label.y),
            (start - end[0] + LEADER, place - end[1]),
            textcoords="offset points",
            annotation_clip=False,
            arrowprops={**LEADER_LINE, "color": label.color},
        )


def _on_figure(axes: Any, x: float, y: float) -> tuple[float, float]:
    """A point's place on the figure, in units."""
    dots = axes.transData.transform((x, y))
    scale = POINTS_PER_INCH / float(axes.figure.dpi)
    return float(dots[0]) * scale, float(dots[1]) * scale


def to_svg(figure: Any, slug: str) -> str:
    """The figure as one `<svg>` element whose ids all start with `slug`."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": slug}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(<[^<>]*\bid=")', rf"\g<1>{slug}-", text)
    text = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{slug}-", text)
    return re.sub(r"\n\s*", "\n", text)


def for_page(svg: str, label: str) -> Markup:
    """An SVG for the HTML page: scales with its column, swaps its colours in dark mode."""
    for ink in all_inks():
        svg = svg.replace(ink.light, f"var(--{ink.name}, {ink.light})")
    svg = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    opening = Markup('<svg role="img" aria-label="{}"').format(label)
    return opening + Markup(svg[len("<svg") :])  # noqa: S704 - drawn by us, texts are escaped


def for_file(svg: str, label: str) -> str:
    """An SVG file of its own, on white paper, with a title for screen readers."""
    start = svg.index(">") + 1
    paper = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return f"{svg[:start]}<title>{escape(label)}</title>{paper}{svg[start:]}"
