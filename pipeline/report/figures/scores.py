"""Scores: every seed, the mean and one deviation per strategy; and score against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.report import formats
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
from pipeline.report.palette import MUTED, TEXT, Style
from pipeline.report.tables import Group

ROW = 21.0
TOP, BOTTOM = 44.0, 34.0
TEACHER = "teacher"
ASIDE = 0.006  # of the parameters, between neighbouring strategies


def draw_scores(
    groups: Sequence[Group],
    styles: Mapping[str, Style],
    teacher: float | None,
    *,
    metric: str,
    slug: str,
) -> str:
    """A row per group, under a heading per depth; the teacher is a dashed line."""
    rows = _rows(groups)
    height = TOP + BOTTOM + ROW * len(rows)
    names = [shortened(group.label) for group in groups]
    values = [formats.mean_std(group.score) for group in groups]
    with drawing():
        figure, axes = panel(
            height, left=room_for(names), right=room_for(values), top=TOP, bottom=BOTTOM
        )
        title(figure, f"Validation {metric}, ×100", height)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        for place, row in enumerate(rows):
            if isinstance(row, str):
                _heading(axes, place, row)
            else:
                _row(axes, place, row, styles[row.strategy])
        _teacher_line(axes, teacher, top=-0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks([])
        return to_svg(figure, slug)


def _rows(groups: Sequence[Group]) -> list[str | Group]:
    rows: list[str | Group] = []
    for depth, members in groupby(groups, key=lambda group: group.depth):
        cell = list(members)
        size = formats.parameters(cell[0].runs[0].parameters)
        rows.extend([f"{formats.counted(depth, 'layer')}, {size} parameters", *cell])
    return rows


def _heading(axes: Any, place: int, text: str) -> None:
    axes.annotate(
        text,
        (0, place),
        (2, -2),
        xycoords=("figure fraction", "data"),
        textcoords="offset points",
        va="center",
        color=MUTED.light,
    )


def _row(axes: Any, place: int, group: Group, style: Style) -> None:
    score = group.score
    mean, std = 100 * score.mean, 100 * (score.std or 0.0)
    axes.hlines(place, mean - std, mean + std, color=style.color, linewidth=5, alpha=0.25)
    axes.plot(
        [100 * value for value in score.values],
        [place] * score.n,
        linestyle="none",
        marker="o",
        markersize=3.2,
        color=style.color,
        alpha=0.75,
    )
    axes.plot(mean, place, marker=style.marker, markersize=7, color=style.color)
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(
        shortened(group.label), (0, place), (-7, 0), ha="right", color=style.color, **beside
    )
    axes.annotate(
        formats.mean_std(score), (1, place), (7, 0), ha="left", color=TEXT.light, **beside
    )


def _teacher_line(axes: Any, teacher: float | None, top: float) -> None:
    if teacher is None:
        return
    axes.axvline(100 * teacher, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"teacher {formats.points(teacher)}",
        (100 * teacher, top),
        (0, 4),
        textcoords="offset points",
        ha="center",
        color=MUTED.light,
        annotation_clip=False,
    )


def draw_score_by_size(
    groups: Sequence[Group],
    styles: Mapping[str, Style],
    teacher: float | None,
    *,
    metric: str,
    slug: str,
) -> str:
    """Mean score against parameters, a line per strategy.

    Args:
        groups: of two depths or more.
        styles: by strategy.
        teacher: its score, drawn as a dashed line.
        metric: for the title.
        slug: unique on the page.
    """
    height = 250.0
    lines: dict[str, list[Group]] = {}
    for group in groups:
        lines.setdefault(group.label, []).append(group)
    with drawing():
        figure, axes = panel(height, left=34, right=room_for([*map(_short, lines), TEACHER]))
        title(figure, f"Validation {metric} ×100, by parameters", height)
        ends = [
            _line(axes, members, styles[members[0].strategy], place - (len(lines) - 1) / 2)
            for place, members in enumerate(lines.values())
        ]
        if teacher is not None:
            axes.axhline(100 * teacher, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
            ends.append(EndLabel(axes.get_xlim()[1], 100 * teacher, TEACHER, MUTED.light))
        axes.set_xlabel("million parameters")
        end_labels(axes, ends)
        return to_svg(figure, slug)


def _short(label: str) -> str:
    return shortened(label, 16)


def _line(axes: Any, members: Sequence[Group], style: Style, place: float) -> EndLabel:
    """One strategy, moved aside a little so that its deviations are not under another's."""
    x = [group.runs[0].parameters / 1e6 * (1 + ASIDE * place) for group in members]
    y = [100 * group.score.mean for group in members]
    axes.errorbar(
        x,
        y,
        yerr=[100 * (group.score.std or 0.0) for group in members],
        color=style.color,
        marker=style.marker,
        markersize=6,
        elinewidth=1,
        capsize=0,
    )
    return EndLabel(x[-1], y[-1], _short(members[0].label), style.color)
