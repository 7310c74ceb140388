"""Score against a cost, with the frontier that no other model beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.figures.svg import drawing, panel, room_for, shortened, title, to_svg
from pipeline.report.palette import MUTED, TEXT, Style

HEIGHT = 262.0
KEY_LINE = 15.0  # units between entries of the key
LOG_FROM = 6.0  # a span of costs as wide as that is drawn on a logarithmic scale


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One model."""

    cost: float
    score: float
    spread: float
    """Standard deviation of the score; 0 = not drawn."""
    key: str
    """What its style and the entry in the key are of."""
    name: str
    """Written beside it when it is on the frontier."""
    best: bool
    """Whether it is on the frontier."""


def draw_trade_off(
    dots: Sequence[Dot],
    styles: Mapping[str, Style],
    *,
    heading: str,
    x_label: str,
    slug: str,
) -> str:
    """All models as dots; those on the frontier joined by steps and named."""
    keys = list(dict.fromkeys(dot.key for dot in dots))
    names = [shortened(key, 14) for key in keys]
    with drawing():
        figure, axes = panel(HEIGHT, left=34, right=room_for(names) + 6)
        title(figure, heading, HEIGHT)
        _scale(axes, [dot.cost for dot in dots], x_label)
        _steps(axes, sorted((d for d in dots if d.best), key=lambda dot: dot.cost))
        for dot in dots:
            _dot(axes, dot, styles[dot.key])
        axes.margins(x=0.14, y=0.14)  # for the names of the outermost
        axes.autoscale_view()
        _names(axes, [dot for dot in dots if dot.best])
        _key(axes, [(name, styles[key]) for name, key in zip(names, keys, strict=True)])
        return to_svg(figure, slug)


def _scale(axes: Any, costs: Sequence[float], x_label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if min(costs) > 0 and max(costs) / min(costs) >= LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_xlabel(x_label)


def _steps(axes: Any, best: Sequence[Dot]) -> None:
    """At each cost, the best score that can be had for it."""
    costs, scores = [dot.cost for dot in best], [dot.score for dot in best]
    line = {"color": MUTED.light, "linewidth": 1.2, "zorder": 1}
    axes.plot(costs, scores, drawstyle="steps-post", **line)


def _dot(axes: Any, dot: Dot, style: Style) -> None:
    if dot.spread:
        low, high = dot.score - dot.spread, dot.score + dot.spread
        axes.vlines(dot.cost, low, high, color=style.color, linewidth=1, alpha=0.45)
    big = 1.5 if style.marker == "*" else 1.0
    axes.plot(
        dot.cost,
        dot.score,
        marker=style.marker,
        markersize=7.5 * big,
        markerfacecolor=style.color if dot.best else "none",
        markeredgecolor=style.color,
        markeredgewidth=1.4,
        linestyle="none",
        zorder=3,
    )


def _names(axes: Any, best: Sequence[Dot]) -> None:
    """Where the steps are not: above and left of a dot in the right half, else below and right."""
    low, high = axes.get_xlim()
    for dot in best:
        place = axes.transData.transform((dot.cost, dot.score))
        start, end = (axes.transData.transform((x, dot.score))[0] for x in (low, high))
        on_right = (place[0] - start) / (end - start) > 0.55
        axes.annotate(
            shortened(dot.name, 20),
            (dot.cost, dot.score),
            (-7, 6) if on_right else (7, -12),
            textcoords="offset points",
            ha="right" if on_right else "left",
            color=TEXT.light,
        )


def _key(axes: Any, entries: Sequence[tuple[str, Style]]) -> None:
    """Marker and name of each strategy, in a column on the right."""
    for place, (name, style) in enumerate(entries):
        down = -4.0 - KEY_LINE * place
        beside = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        axes.annotate(name, (1, 1), (20, down), color=style.color, **beside)
        _key_marker(axes, style, down)


def _key_marker(axes: Any, style: Style, down: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    unit = axes.figure.dpi_scale_trans
    move = axes.transAxes + ScaledTranslation(12 / 72, down / 72, unit)
    axes.plot(
        1, 1, marker=style.marker, markersize=6.5, color=style.color, linestyle="none",
        transform=move, clip_on=False,
    )  # fmt: skip
