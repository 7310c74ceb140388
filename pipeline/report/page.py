"""The page's content, ready for a template: texts, table cells and pictures per task. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report import formats, summary
from pipeline.report.figures.curves import TERM_NAMES, Value, curve_of, draw_curves
from pipeline.report.figures.heat import draw_similarity, shared_range
from pipeline.report.figures.savings import draw_savings
from pipeline.report.figures.scores import draw_score_by_size, draw_scores
from pipeline.report.findings import TaskFindings, TeacherRow
from pipeline.report.palette import Style, styles_for
from pipeline.report.records import Epoch, Skipped
from pipeline.report.speed import Speed
from pipeline.report.tables import Group

UNKNOWN = "–"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One panel."""

    slug: str
    label: str
    """What it shows, for those who do not see it."""
    svg: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table; the first cell names it."""

    cells: tuple[str, ...]
    is_teacher: bool = False
    starts_depth: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """One task's part of the report."""

    name: str
    slug: str
    metric: str
    sentences: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    table_notes: tuple[str, ...]
    scores: tuple[Picture, ...]
    curves: tuple[tuple[str, tuple[Picture, ...]], ...]
    """Heading (the depth) and its panels."""
    similarities: tuple[Picture, ...]
    similarity_text: str
    similarity_notes: tuple[str, ...]
    savings: Picture | None
    cost_lines: tuple[tuple[str, str], ...]
    """What, and how long."""
    cost_notes: tuple[str, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All panels, in order."""
        curves = [picture for _, panels in self.curves for picture in panels]
        saved = [self.savings] if self.savings else []
        return [*self.scores, *curves, *self.similarities, *saved]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    opening: str
    tasks: tuple[TaskPage, ...]
    skipped: tuple[Skipped, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All panels of all tasks."""
        return [picture for task in self.tasks for picture in task.pictures]


def make_page(findings: Sequence[TaskFindings], skipped: Sequence[Skipped]) -> Page:
    """Turn findings into texts, tables and pictures."""
    styles = styles_for(run.strategy for found in findings for run in found.runs)
    slugs = slugs_of([found.task for found in findings])
    students = sum(len(found.runs) for found in findings)
    opening = (
        f"{formats.counted(students, 'student')} of {formats.counted(len(findings), 'task')}. "
        "Scores are validation scores in points (×100), mean ± standard deviation over seeds."
    )
    tasks = tuple(_task(each, slugs[each.task], styles) for each in findings)
    return Page(opening=opening, tasks=tasks, skipped=tuple(skipped))


def slugs_of(names: Sequence[str]) -> dict[str, str]:
    """A different safe name for files and anchors for each task, whatever it is called."""
    slugs: dict[str, str] = {}
    for name in names:
        clean = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "task"
        taken = clean in slugs.values() or clean != name
        slugs[name] = f"{clean}-{len(slugs) + 1}" if taken else clean
    return slugs


def _task(found: TaskFindings, slug: str, styles: Mapping[str, Style]) -> TaskPage:
    columns = _columns(found)
    return TaskPage(
        name=found.task,
        slug=slug,
        metric=found.metric,
        sentences=tuple(summary.task_sentences(found)),
        columns=tuple(columns),
        rows=tuple(_rows(found)),
        table_notes=tuple(found.notes.get("table", ())),
        scores=tuple(_score_pictures(found, slug, styles)),
        curves=tuple(_curve_pictures(found, slug, styles)),
        similarities=tuple(_similarity_pictures(found, slug)),
        similarity_text=_similarity_text(found),
        similarity_notes=tuple(found.notes.get("similarity", ())),
        savings=_savings_picture(found, slug),
        cost_lines=tuple(_cost_lines(found)),
        cost_notes=tuple(found.notes.get("cost", ())),
    )


def _others(found: TaskFindings) -> list[tuple[str, str]]:
    """(split, metric) of the further scores that stand in the table."""
    scores = found.runs[0].scores
    main = (found.split, found.metric)
    return [(s, m) for s in scores for m in scores[s] if (s, m) != main]


def _columns(found: TaskFindings) -> list[str]:
    others = [
        metric if split == found.split else f"{metric}, {split.removeprefix('validation_')}"
        for split, metric in _others(found)
    ]
    fixed = ["model", "layers", found.metric, "n", "kept", *others, "parameters", "size"]
    batch = [f"rows/s ({found.device})", "speed-up", "ms, one row"] if found.device else []
    return [*fixed, *batch]


def _rows(found: TaskFindings) -> list[Row]:
    teachers = [Row(cells=_teacher_cells(found, each), is_teacher=True) for each in found.teachers]
    rows = list(teachers)
    depth = None
    for group in found.groups:
        rows.append(Row(cells=_cells(found, group), starts_depth=group.depth != depth))
        depth = group.depth
    return rows


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
        str(group.depth),
        formats.mean_std(group.score),
        str(group.score.n),
        UNKNOWN if group.kept is None else formats.percent_fine(group.kept),
        *(UNKNOWN if sample is None else formats.mean_std(sample) for sample in others),
        formats.parameters(first.parameters),
        formats.size(first.size_bytes),
        *_speed_cells(found, found.speed_of(group)),
    )


def _speed_cells(found: TaskFindings, speed: Speed | None) -> list[str]:
    if found.device is None:
        return []
    if speed is None:
        return [UNKNOWN] * 3
    teacher = found.teachers[0].speed if len(found.teachers) == 1 else None
    faster = formats.times(speed.rows_per_second / teacher.rows_per_second) if teacher else UNKNOWN
    return [formats.rate(speed.rows_per_second), faster, f"{speed.milliseconds_per_row:.1f}"]


def _score_pictures(found: TaskFindings, slug: str, styles: Mapping[str, Style]) -> list[Picture]:
    reference = _teacher_score(found)
    dots = draw_scores(found.groups, styles, reference, metric=found.metric, slug=f"{slug}-scores")
    pictures = [
        Picture(slug=f"{slug}-scores", label=f"{found.task}: scores by strategy and seed", svg=dots)
    ]
    if len({group.depth for group in found.groups}) > 1:
        parameters = found.teachers[0].parameters
        star = (parameters, reference) if parameters and reference is not None else None
        lines = draw_score_by_size(
            found.groups, styles, star, metric=found.metric, slug=f"{slug}-size"
        )
        label = f"{found.task}: score against parameters"
        pictures.append(Picture(slug=f"{slug}-size", label=label, svg=lines))
    return pictures


def _teacher_score(found: TaskFindings) -> float | None:
    if len(found.teachers) != 1:
        return None
    return found.teachers[0].known.scores.get(found.split, {}).get(found.metric)


def _curve_pictures(
    found: TaskFindings, slug: str, styles: Mapping[str, Style]
) -> list[tuple[str, tuple[Picture, ...]]]:
    depths = sorted({group.depth for group in found.groups})
    sections = []
    for depth in depths:
        groups = [group for group in found.groups if group.depth == depth]
        panels = _panels(found, groups, f"{slug}-{depth}", styles)
        if panels:
            sections.append((formats.counted(depth, "layer"), tuple(panels)))
    return sections


def _panels(
    found: TaskFindings, groups: Sequence[Group], slug: str, styles: Mapping[str, Style]
) -> list[Picture]:
    """Validation score, then each loss term that any of the groups has."""

    def score(epoch: Epoch) -> float | None:
        return epoch.scores.get(found.split, {}).get(found.metric)

    teacher = _teacher_score(found)
    reference = None if teacher is None else (teacher, "teacher")
    panels = []
    curves = [curve for group in groups if (curve := curve_of(group, score))]
    if curves:
        heading = f"Validation {found.metric}, ×100"
        svg = draw_curves(
            curves, styles, heading=heading, slug=f"{slug}-score", scale=100, reference=reference
        )
        panels.append(Picture(slug=f"{slug}-score", label=f"{found.task}: {heading}", svg=svg))
    for term, name in TERM_NAMES.items():
        curves = [c for group in groups if (c := curve_of(group, _loss(term)))]
        if curves:
            svg = draw_curves(curves, styles, heading=name, slug=f"{slug}-{term}")
            panels.append(Picture(slug=f"{slug}-{term}", label=f"{found.task}: {name}", svg=svg))
    return panels


def _loss(term: str) -> Value:
    return lambda epoch: epoch.losses.get(term)


def _similarity_pictures(found: TaskFindings, slug: str) -> list[Picture]:
    if not found.similarities:
        return []
    limits = shared_range(found.similarities)
    return [
        Picture(
            slug=f"{slug}-layers-{index}",
            label=f"{found.task}: layer similarity of {each.run.name}",
            svg=draw_similarity(each, limits, slug=f"{slug}-layers-{index}"),
        )
        for index, each in enumerate(found.similarities, start=1)
    ]


def _similarity_text(found: TaskFindings) -> str:
    if not found.similarities:
        return ""
    rows = found.similarities[0].rows
    return (
        "Mean cosine similarity of [CLS] between student and teacher layers, on "
        f"{rows:,} rows of {found.split}; one student per strategy, its lowest seed. Outlined: the "
        "pairs that the strategy matched. PKD trains on the squared distance of the normalised "
        "vectors, which is 2 − 2 · cosine."
    )


def _savings_picture(found: TaskFindings, slug: str) -> Picture | None:
    if found.cost is None:
        return None
    label = f"{found.task}: teacher time with and without the cache"
    svg = draw_savings(found.cost, slug=f"{slug}-savings")
    return Picture(slug=f"{slug}-savings", label=label, svg=svg)


def _cost_lines(found: TaskFindings) -> list[tuple[str, str]]:
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
