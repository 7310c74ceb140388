"""The page's content, ready for a template: texts, table cells and pictures per task. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report import formats, summary
from pipeline.report.figures.scores import draw_score_by_size, draw_scores
from pipeline.report.findings import TaskFindings
from pipeline.report.palette import Style, styles_for
from pipeline.report.records import Skipped
from pipeline.report.rows import columns, rows
from pipeline.report.section import Picture, Section, Table
from pipeline.report.sections.benches import bench_sections
from pipeline.report.sections.breakdown import agreement_section, breakdown_section
from pipeline.report.sections.calibration import calibration_section
from pipeline.report.sections.cost import cost_section
from pipeline.report.sections.disagreements import disagreement_section
from pipeline.report.sections.layers import layer_section, probe_section
from pipeline.report.sections.runs import runs_section
from pipeline.report.sections.sweeps import sweep_sections
from pipeline.report.sections.trade_off import trade_off_section
from pipeline.report.sections.training import training_sections
from pipeline.report.tables import readable


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """One task's part of the report."""

    name: str
    slug: str
    sentences: tuple[str, ...]
    table: Table
    table_notes: tuple[str, ...]
    scores: tuple[Picture, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All panels, in order."""
        return [*self.scores, *(each for part in self.sections for each in part.pictures)]


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
        sentences=tuple(summary.task_sentences(found)),
        table=Table(columns=tuple(columns(found)), rows=tuple(rows(found))),
        table_notes=tuple(found.notes.get("table", ())),
        scores=tuple(_score_pictures(found, slug, styles)),
        sections=tuple(_sections(found, slug, styles)),
    )


def _sections(found: TaskFindings, slug: str, styles: Mapping[str, Style]) -> list[Section]:
    """In the order of a reader's questions: which one, how come, where it errs, the bill."""
    parts = [
        trade_off_section(found, slug, styles),
        *training_sections(found, slug, styles),
        layer_section(found, slug),
        probe_section(found, slug),
        breakdown_section(found, slug),
        agreement_section(found, slug),
        calibration_section(found, slug, styles),
        disagreement_section(found, slug),
        *bench_sections(found, slug),
        *sweep_sections(found, slug),
        cost_section(found, slug),
        runs_section(found, slug),
    ]
    return [part for part in parts if part]


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
