"""Rows and cells that name groups, and give numbers over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from pipeline.report import formats
from pipeline.report.answers.types import GroupAnswers
from pipeline.report.rows import UNKNOWN, layers_cell
from pipeline.report.section import Row
from pipeline.report.tables import Group, Sample, readable


def readable_answers(answered: Sequence[GroupAnswers]) -> list[GroupAnswers]:
    """The same of groups with answers."""
    kept = {id(group) for group in readable([each.group for each in answered])}
    return [each for each in answered if id(each.group) in kept]


def named(group: Group) -> str:
    """`skip, 3 layers`."""
    return f"{group.label}, {formats.counted(group.depth, 'layer')}"


def model_rows(
    teacher: tuple[str, tuple[str, ...]] | None,
    students: Sequence[tuple[Group, tuple[str, ...]]],
) -> tuple[Row, ...]:
    """Lines that begin with model and layers: the teacher's (layers, cells), then every group's."""
    lines, depth = [], None
    if teacher:
        lines.append(Row(cells=("teacher", teacher[0], *teacher[1]), is_teacher=True))
    for group, cells in students:
        first = (group.label, layers_cell(group))
        lines.append(Row(cells=(*first, *cells), starts_depth=group.depth != depth))
        depth = group.depth
    return tuple(lines)


def points_cell(values: Sequence[float | None]) -> str:
    """Mean and deviation in points; a dash where a seed has no value."""
    known = [value for value in values if value is not None]
    whole = known and len(known) == len(values)
    return formats.mean_std(Sample(tuple(known))) if whole else UNKNOWN


def number_cell(values: Sequence[float], digits: int = 3) -> str:
    """Mean and deviation of plain numbers."""
    spread = f"{formats.KEEP}±{formats.KEEP}{stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}".replace("-", formats.MINUS) + spread
