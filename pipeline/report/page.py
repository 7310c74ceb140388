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
from pipeline.report.findings import TaskFindings
from pipeline.report.palette import Style, styles_for
from pipeline.report.records import Epoch, Skipped
from pipeline.report.rows import Row, columns, cost_lines, rows
from pipeline.report.tables import Group

CURVES_AT_MOST = 12  # in one panel


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One panel."""

    slug: str
    label: str
    """What it shows, for those who do not see it."""
    svg: str


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
    return TaskPage(
        name=found.task,
        slug=slug,
        metric=found.metric,
        sentences=tuple(summary.task_sentences(found)),
        columns=tuple(columns(found)),
        rows=tuple(rows(found)),
        table_notes=tuple(found.notes.get("table", ())),
        scores=tuple(_score_pictures(found, slug, styles)),
        curves=tuple(_curve_pictures(found, slug, styles)),
        similarities=tuple(_similarity_pictures(found, slug)),
        similarity_text=_similarity_text(found),
        similarity_notes=tuple(found.notes.get("similarity", ())),
        savings=_savings_picture(found, slug),
        cost_lines=tuple(cost_lines(found)),
        cost_notes=tuple(found.notes.get("cost", ())),
    )


def _score_pictures(found: TaskFindings, slug: str, styles: Mapping[str, Style]) -> list[Picture]:
    reference = found.teacher_score
    dots = draw_scores(found.groups, styles, reference, metric=found.metric, slug=f"{slug}-scores")
    pictures = [
        Picture(slug=f"{slug}-scores", label=f"{found.task}: scores by strategy and seed", svg=dots)
    ]
    if len({group.depth for group in found.groups}) > 1:
        lines = draw_score_by_size(
            readable(found.groups), styles, reference, metric=found.metric, slug=f"{slug}-size"
        )
        label = f"{found.task}: score against parameters"
        pictures.append(Picture(slug=f"{slug}-size", label=label, svg=lines))
    return pictures


def _curve_pictures(
    found: TaskFindings, slug: str, styles: Mapping[str, Style]
) -> list[tuple[str, tuple[Picture, ...]]]:
    depths = sorted({group.depth for group in found.groups})
    sections = []
    for depth in depths:
        groups = [group for group in found.groups if group.depth == depth]
        shown = readable(groups)
        panels = _panels(found, shown, f"{slug}-{depth}", styles)
        chosen = "" if len(shown) == len(groups) else ", the best row of each strategy"
        if panels:
            sections.append((f"{formats.counted(depth, 'layer')}{chosen}", tuple(panels)))
    return sections


def readable(groups: Sequence[Group]) -> list[Group]:
    """The groups for one panel: all, or the best of each strategy and depth when too many."""
    if len({group.label for group in groups}) <= CURVES_AT_MOST:
        return list(groups)
    best: dict[tuple[int, str], Group] = {}
    for group in groups:
        cell = (group.depth, group.strategy)
        if cell not in best or group.score.mean > best[cell].score.mean:
            best[cell] = group
    return list(best.values())


def _panels(
    found: TaskFindings, groups: Sequence[Group], slug: str, styles: Mapping[str, Style]
) -> list[Picture]:
    """Validation score, then each loss term that any of the groups has."""

    def score(epoch: Epoch) -> float | None:
        return epoch.scores.get(found.split, {}).get(found.metric)

    teacher = found.teacher_score
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
