"""Collecting a task's findings: tables from records, pictures and speeds from models and cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.batches import Rows
from pipeline.devices import pick_device
from pipeline.errors import PipelineError
from pipeline.params import ReportParams
from pipeline.progress import Tick, silent
from pipeline.report.answers.examples import Examples, gather_examples
from pipeline.report.answers.gather import gather_answers
from pipeline.report.answers.types import Answers
from pipeline.report.cost import Cost, cost_of
from pipeline.report.findings import SizeKey, TaskFindings, TeacherRow, size_key
from pipeline.report.kept import noted_benches, noted_probes, noted_sweeps
from pipeline.report.records import StudentRun, TeacherRun
from pipeline.report.similarity import LayerSimilarity, layer_similarity
from pipeline.report.sources import Notes, OpenSources, Sources
from pipeline.report.speed import Speed, Subject, measure
from pipeline.report.tables import Group, group_runs, readable
from pipeline.report.tokens import CacheView

LoadedTeacher = tuple[TeacherRun, Any]
Tokens = dict[tuple[str, bool], Rows]  # by `CacheView.tokens_key`


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What the steps of one gathering share."""

    task: str
    groups: tuple[Group, ...]
    opened: OpenSources
    notes: Notes
    params: ReportParams
    device: torch.device
    tick: Tick

    def told(self, what: str, done: int, total: int, **figures: float) -> None:
        """Report progress under the task's name: bars of two tasks are two bars."""
        self.tick(f"{self.task}: {what}", done, total, **figures)


def gather(
    task: str,
    runs: Sequence[StudentRun],
    sources: Sources,
    params: ReportParams,
    tick: Tick = silent,
) -> TaskFindings:
    """Collect a task's findings; what cannot be had becomes a note.

    Raises:
        ParamsError: a device that this machine does not have.
    """
    work = _Work(
        task=task,
        groups=tuple(group_runs(runs)),
        opened=OpenSources(sources),
        notes=Notes(),
        params=params,
        device=pick_device(params.device),
        tick=tick,
    )
    _tell_unlabelled(runs, work.notes)
    references = _one_run_per_teacher(runs, work.notes)
    loaded = {run.teacher.digest: _teacher(work, run) for run in references}
    speeds, teacher_speeds = _speeds(work, loaded)
    answered = gather_answers(work.groups, work.opened, work.notes)
    examples = _examples(work, answered)
    first = work.groups[0].runs[0]
    return TaskFindings(
        task=task,
        metric=first.metric,
        split=first.split,
        groups=work.groups,
        teachers=tuple(
            _teacher_row(run, loaded[run.teacher.digest], teacher_speeds.get(run.teacher.digest))
            for run in references
        ),
        speeds=speeds,
        device=work.device.type if speeds else None,
        cost=_cost(work, runs),
        similarities=_similarities(work),
        answers=answered[0] if answered else None,
        disagreements=examples.groups,
        texts=examples.texts,
        probes=noted_probes(sources.metrics, task, runs, work.notes),
        benches=noted_benches(sources.metrics, runs, work.notes),
        sweeps=noted_sweeps(sources.metrics, task, work.notes),
        notes=work.notes.by_place(),
    )


def representatives(groups: Sequence[Group]) -> list[StudentRun]:
    """One run per strategy for the layer pictures: the lowest seed, at one depth for all.

    The depth is the one that most strategies have (the deepest of several); a strategy without it
    is shown at its deepest.
    """
    strategies: dict[str, dict[int, Group]] = {}
    for group in groups:
        strategies.setdefault(group.strategy, {}).setdefault(group.depth, group)
    depths = {group.depth for group in groups}
    common = max(
        depths, key=lambda depth: (sum(depth in has for has in strategies.values()), depth)
    )
    return [has.get(common, has[max(has)]).runs[0] for has in strategies.values()]


def _one_run_per_teacher(runs: Sequence[StudentRun], notes: Notes) -> list[StudentRun]:
    of_digest = {run.teacher.digest: run for run in reversed(runs)}
    if len(of_digest) > 1:
        notes.add(
            "table",
            f"These students learned from {len(of_digest)} different teachers; "
            "each is compared with its own.",
        )
    return sorted(of_digest.values(), key=lambda run: (run.teacher.name, run.teacher.digest))


def _tell_unlabelled(runs: Sequence[StudentRun], notes: Notes) -> None:
    """Of each number of rows that students were trained on; nothing where all have labels."""
    counts = {(run.train_rows, run.labelled_rows) for run in runs if run.unlabelled_rows > 0}
    for rows, labelled in sorted((rows or 0, labelled or 0) for rows, labelled in counts):
        notes.add(
            "table",
            f"Training rows: {rows:,}, of which {labelled:,} have a label and {rows - labelled:,} "
            "have none. Students learn the teacher's outputs from all of them; finetune sees those "
            "with a label alone.",
        )


def _teacher(work: _Work, run: StudentRun) -> LoadedTeacher | None:
    try:
        return work.opened.teacher(run)
    except PipelineError as error:
        told = f"Teacher {run.teacher.name}: {error}; its size and speed are left out."
        work.notes.add("table", told)
        return None


def _teacher_row(run: StudentRun, loaded: LoadedTeacher | None, speed: Speed | None) -> TeacherRow:
    known = run.teacher
    return TeacherRow(
        known=known,
        layers=run.teacher_layers,
        parameters=loaded[0].parameters if loaded else known.parameters,
        size_bytes=loaded[0].size_bytes if loaded else None,
        speed=speed,
    )


def _cost(work: _Work, runs: Sequence[StudentRun]) -> Cost | None:
    try:
        found = cost_of(work.opened.cache_build(work.task), runs)
    except PipelineError as error:
        told = f"Left out: the build time of the cache is not known ({error})."
        work.notes.add("cost", told)
        return None
    if found is None:
        work.notes.add("cost", "Left out: none of these students asked a teacher for anything.")
    return found


def _examples(work: _Work, answered: tuple[Answers, CacheView] | None) -> Examples:
    """Worst disagreements of the groups that pictures show."""
    if answered is None or answered[0].is_regression:
        return Examples()
    shown = readable([each.group for each in answered[0].groups])
    return gather_examples(*answered, shown, work.params.disagreements, work.notes)


def _similarities(work: _Work) -> tuple[LayerSimilarity, ...]:
    """Layer pictures of one student per strategy."""
    if not work.params.similarity_rows:
        work.notes.add("similarity", "Left out: similarity_rows is 0.")
        return ()
    chosen = representatives(work.groups)
    found = []
    for done, run in enumerate(chosen, start=1):
        try:
            view, model = _view_and_model(work, run)
            rows = work.params.similarity_rows
            found.append(layer_similarity(run, model, view, rows, work.device))
        except PipelineError as error:
            work.notes.leave_out("similarity", "Left out", run, error)
        work.told("layer similarity", done, len(chosen))
    return tuple(found)


def _speeds(
    work: _Work, teachers: Mapping[str, LoadedTeacher | None]
) -> tuple[dict[SizeKey, Speed], dict[str, Speed]]:
    """Measured speeds: of students by size, of teachers by digest."""
    if not work.params.latency_rows:
        work.notes.add("table", "Inference speed not measured: latency_rows is 0.")
        return {}, {}
    subjects: dict[SizeKey | str, Subject] = {}
    tokens: Tokens = {}
    for run in (group.runs[0] for group in work.groups):
        if size_key(run) not in subjects:
            try:
                view, model = _view_and_model(work, run)
                subjects[size_key(run)] = Subject(model=model, rows=_rows_of(view, tokens))
            except PipelineError as error:
                work.notes.leave_out("table", "Inference speed not measured", run, error)
    if not subjects:
        return {}, {}
    subjects |= _timed_teachers(work, teachers, tokens)
    if len(tokens) > 1:
        told = f"These models read {len(tokens)} kinds of tokens; each is timed on its own kind."
        work.notes.add("table", told)
    found = measure(subjects, work.params.latency_rows, work.device, work.told)
    students = {key: speed for key, speed in found.items() if not isinstance(key, str)}
    return students, {key: speed for key, speed in found.items() if isinstance(key, str)}


def _rows_of(view: CacheView, tokens: Tokens) -> Rows:
    """Rows that the models of a cache read; the same ones for all who can read them."""
    if view.tokens_key not in tokens:
        tokens[view.tokens_key] = view.rows()
    return tokens[view.tokens_key]


def _timed_teachers(
    work: _Work, teachers: Mapping[str, LoadedTeacher | None], tokens: Tokens
) -> dict[SizeKey | str, Subject]:
    """Loaded teachers by digest, each with the rows of a cache that it made."""
    found: dict[SizeKey | str, Subject] = {}
    names: dict[str, str] = {}
    for run in (run for group in work.groups for run in group.runs):
        loaded = teachers.get(run.teacher.digest)
        if loaded is None or run.teacher.digest in found:
            continue
        names[run.teacher.digest] = run.teacher.name
        with suppress(PipelineError):  # another student's cache may be here
            rows = _rows_of(work.opened.cache(run), tokens)
            found[run.teacher.digest] = Subject(model=loaded[1], rows=rows)
    for digest, name in names.items():
        if digest not in found:
            told = f"Inference speed not measured for teacher {name}: no cache of it is here."
            work.notes.add("table", told)
    return found


def _view_and_model(work: _Work, run: StudentRun) -> tuple[CacheView, Any]:
    from pipeline.models.load import load_classifier

    return work.opened.cache(run), load_classifier(str(run.folder))
