"""A sweep: every student's score by the value of each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.report import formats
from pipeline.report.figures.facets import Margins, facets, name_facet
from pipeline.report.figures.svg import FONT_SIZE, drawing, shortened, title, to_svg
from pipeline.report.palette import STYLES
from pipeline.report.sweeps import Sweep, Trial

CELL = 132.0
AT_MOST = 6  # parameters, the most important ones
LONG, NAMED = 6, 8  # characters of a value, and values, from which names are turned or dropped
INK = STYLES["skip"].color


def draw_sweep(sweep: Sweep, *, slug: str) -> str:
    """A small panel for each parameter; the line is the mean over all others."""
    names = sorted(sweep.space, key=lambda name: -sweep.importance.get(name, 0.0))[:AT_MOST]
    scores = [100 * trial.score for trial in sweep.trials]
    margin = 0.08 * (max(scores) - min(scores)) or 1.0
    with drawing():
        made = facets(len(names), columns=2, cell=CELL, margins=Margins())
        title(made.figure, f"Validation {sweep.metric} ×100, by value", made.height)
        for axes, name in zip(made.axes, names, strict=True):
            draw = _values if "values" in sweep.space[name] else _range
            draw(axes, sweep, name)
            axes.set_ylim(min(scores) - margin, max(scores) + margin)
            _few_ticks(axes)
            share = sweep.importance.get(name)
            beside = "" if share is None else formats.percent(share)
            name_facet(axes, shortened(name, 17), beside=beside)
        return to_svg(made.figure, slug)


def _few_ticks(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))


def _values(axes: Any, sweep: Sweep, name: str) -> None:
    """Values that were listed, in their order, at equal steps."""
    values = list(sweep.space[name]["values"])
    place = {repr(value): index for index, value in enumerate(values)}
    _dots(axes, [place[repr(trial.point[name])] for trial in sweep.trials], sweep.trials)
    means = {place[repr(value)]: 100 * mean for value, mean in sweep.means(name)}
    axes.plot(sorted(means), [means[x] for x in sorted(means)], color=INK, linewidth=1.4)
    axes.set_xlim(-0.5, len(values) - 0.5)
    step = -(-len(values) // NAMED)
    shown = range(0, len(values), step)
    axes.set_xticks(shown, [_name(values[x], len(values)) for x in shown])


def _name(value: Any, among: int) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value).lower()
    return shortened(text.replace("e-0", "e-"), max(4, 24 // max(among, 1)))


def _range(axes: Any, sweep: Sweep, name: str) -> None:
    """Numbers that a sampler drew."""
    if sweep.space[name].get("log"):
        axes.set_xscale("log")
    _dots(axes, [float(trial.point[name]) for trial in sweep.trials], sweep.trials)
    axes.tick_params(axis="x", labelsize=FONT_SIZE - 1)


def _dots(axes: Any, x: Sequence[float], trials: Sequence[Trial]) -> None:
    scores = [100 * trial.score for trial in trials]
    dot = {"marker": "o", "markersize": 4.5, "markeredgewidth": 0, "alpha": 0.55}
    axes.plot(x, scores, color=INK, linestyle="none", **dot)
