"""Teacher time with and without a cache, by the number of students trained."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from pipeline.report import formats
from pipeline.report.cost import Cost
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

HEIGHT = 220.0


def draw_savings(cost: Cost, *, slug: str) -> str:
    """Cumulated teacher time: live rises with every student, the cache was paid once."""
    unit, name = (3600.0, "hours") if cost.live_seconds > 7200 else _small_unit(cost)
    live = [0.0, *accumulate(seconds / unit for seconds in cost.saved_seconds)]
    cached = cost.build_seconds / unit
    students = range(len(live))
    live_ink, cached_ink = STYLES["kd"].color, STYLES["skip"].color
    last = cost.students
    labels = (
        EndLabel(last, live[-1], f"live: {formats.seconds(cost.live_seconds)}", live_ink),
        EndLabel(last, cached, f"cache: {formats.seconds(cost.build_seconds)}", cached_ink),
    )
    with drawing():
        figure, axes = panel(HEIGHT, left=40, right=room_for([label.text for label in labels]))
        title(figure, f"Teacher time in {name}, by students trained", HEIGHT)
        saved = [each >= cached for each in live]
        axes.fill_between(
            students,
            cached,
            live,
            where=saved,
            interpolate=True,
            color=live_ink,
            alpha=0.08,
            linewidth=0,
        )
        axes.plot(students, live, color=live_ink)
        axes.plot([0, cost.students], [cached, cached], color=cached_ink)
        axes.set_xlim(0, cost.students)
        axes.set_ylim(0, max(live[-1], cached) * 1.06)
        _whole_students(axes)
        end_labels(axes, labels)
        return to_svg(figure, slug)


def _small_unit(cost: Cost) -> tuple[float, str]:
    return (60.0, "minutes") if cost.live_seconds > 120 else (1.0, "seconds")


def _whole_students(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("students")
