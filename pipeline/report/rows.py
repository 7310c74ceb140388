"""Cells of the tables, as text."""

from __future__ import annotations

from pipeline.report import formats
from pipeline.report.findings import TaskFindings, TeacherRow
from pipeline.report.section import Row
from pipeline.report.speed import Speed
from pipeline.report.tables import Group

UNKNOWN = "–"


def _others(found: TaskFindings) -> list[tuple[str, str]]:
    """(split, metric) of the further scores that stand in the table."""
    scores = found.runs[0].scores
    main = (found.split, found.metric)
    return [(s, m) for s in scores for m in scores[s] if (s, m) != main]


def columns(found: TaskFindings) -> list[str]:
    """Headings of a task's table."""
    others = [
        metric if split == found.split else f"{metric}, {split.removeprefix('validation_')}"
        for split, metric in _others(found)
    ]
    fixed = ["model", "layers", found.metric, "n", "kept", *others, "parameters", "size"]
    batch = [f"rows/s ({found.device})", "speed-up", "ms, one row"] if found.device else []
    return [*fixed, *batch]


def rows(found: TaskFindings) -> list[Row]:
    """Lines of a task's table: teachers first."""
    lines = [Row(cells=_teacher_cells(found, each), is_teacher=True) for each in found.teachers]
    depth = None
    for group in found.groups:
        lines.append(Row(cells=_cells(found, group), starts_depth=group.depth != depth))
        depth = group.depth
    return lines


def _teacher_cells(found: TaskFindings, teacher: TeacherRow) -> tuple[str, ...]:
    scores = teacher.known.scores
    others = [scores.get(split, {}).get(metric) for split, metric in _others(found)]
    main = scores.get(found.split, {}).get(found.metric)
    return (
        f"teacher {teacher.known.name}",
        str(teacher.layers),
        UNKNOWN if main is None else formats.points(main),
        "",
        "",
        *(UNKNOWN if value is None else formats.points(value) for value in others),
        UNKNOWN if teacher.parameters is None else formats.parameters(teacher.parameters),
        UNKNOWN if teacher.size_bytes is None else formats.size(teacher.size_bytes),
        *_speed_cells(found, teacher.speed),
    )


def _cells(found: TaskFindings, group: Group) -> tuple[str, ...]:
    others = [group.other(split, metric) for split, metric in _others(found)]
    first = group.runs[0]
    return (
        group.label,
        layers_cell(group),
        formats.mean_std(group.score),
        str(group.score.n),
        UNKNOWN if group.kept is None else formats.percent_fine(group.kept),
        *(UNKNOWN if sample is None else formats.mean_std(sample) for sample in others),
        formats.parameters(first.parameters),
        formats.size(first.size_bytes),
        *_speed_cells(found, found.speed_of(group)),
    )


def layers_cell(group: Group) -> str:
    """`3`, or `3 (6 passes)` where layers are shared."""
    run = group.runs[0]
    return (
        str(run.depth)
        if run.block_passes == run.depth
        else f"{run.depth} ({run.block_passes} passes)"
    )


def _speed_cells(found: TaskFindings, speed: Speed | None) -> list[str]:
    if found.device is None:
        return []
    if speed is None:
        return [UNKNOWN] * 3
    teacher = found.teachers[0].speed if len(found.teachers) == 1 else None
    faster = formats.times(speed.rows_per_second / teacher.rows_per_second) if teacher else UNKNOWN
    return [formats.rate(speed.rows_per_second), faster, f"{speed.milliseconds_per_row:.1f}"]


def cost_lines(found: TaskFindings) -> list[tuple[str, str]]:
    """What the cache costs and saves, line by line; [] when it is not known."""
    cost = found.cost
    if cost is None:
        return []
    after = "never" if cost.break_even is None else formats.counted(cost.break_even, "student")
    students = formats.counted(cost.students, "distilled student")
    train, where = cost.training_seconds, formats.listed(list(cost.student_devices))
    lines = [
        (
            f"Building the cache, once (all splits, {cost.device})",
            formats.seconds(cost.build_seconds),
        ),
        ("One teacher pass over the training rows", formats.seconds(cost.pass_seconds)),
        ("Teacher time saved per student, on average", formats.seconds(cost.mean_saved_seconds)),
        (f"Paid for after (exactly: {cost.exact_break_even:.2f})", after),
        (f"Teacher time of {students}, live", formats.seconds(cost.live_seconds)),
        ("The same from the cache", formats.seconds(cost.build_seconds)),
        (f"Their own training ({where})", formats.seconds(train)),
    ]
    if not cost.comparable:
        return lines
    return [
        *lines,
        ("All together, live", formats.seconds(train + cost.live_seconds)),
        ("All together, cached", formats.seconds(train + cost.build_seconds)),
    ]
