"""Everything that the report has to say of one task, gathered before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.devices import pick_device
from pipeline.errors import DataError, PipelineError
from pipeline.params import ReportParams
from pipeline.progress import Tick, silent
from pipeline.report.cost import Cost, cost_of
from pipeline.report.formats import listed
from pipeline.report.records import (
    StudentRun,
    TeacherOf,
    TeacherRun,
    load_cache_build,
    load_teacher,
)
from pipeline.report.similarity import LayerSimilarity, layer_similarity
from pipeline.report.speed import Speed, measure
from pipeline.report.tables import Group, group_runs
from pipeline.report.tokens import CacheView, open_cache

SizeKey = tuple[int, int]
"""Student layers and parameters: students of one size share one measured speed."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the report looks."""

    students: Path
    teachers: Path
    caches: Path
    metrics: Path


@dataclass(frozen=True, kw_only=True)
class TeacherRow:
    """A teacher as far as it is known: from the students' records, and from its folder if there."""

    known: TeacherOf
    layers: int
    parameters: int | None
    size_bytes: int | None
    speed: Speed | None


@dataclass(frozen=True, kw_only=True)
class TaskFindings:
    """One task."""

    task: str
    metric: str
    split: str
    groups: tuple[Group, ...]
    teachers: tuple[TeacherRow, ...]
    """One, unless students of several teachers are mixed."""
    speeds: Mapping[SizeKey, Speed]
    device: str | None
    """Where speeds were measured."""
    cost: Cost | None
    similarities: tuple[LayerSimilarity, ...]
    notes: Mapping[str, Sequence[str]]
    """What is left out and why, by place: table, similarity, cost."""

    @property
    def runs(self) -> list[StudentRun]:
        """All runs, in the order of the tables."""
        return [run for group in self.groups for run in group.runs]

    def speed_of(self, group: Group) -> Speed | None:
        """Measured speed of a group's students."""
        return self.speeds.get(size_key(group.runs[0]))


def gather(
    task: str,
    runs: Sequence[StudentRun],
    sources: Sources,
    params: ReportParams,
    tick: Tick = silent,
) -> TaskFindings:
    """Collect a task's findings; what cannot be had becomes a note."""
    work = _Gathering(sources, params, tick)
    groups = tuple(group_runs(runs))
    teachers = {run.teacher.digest: run for run in reversed(runs)}
    references = sorted(teachers.values(), key=lambda run: (run.teacher.name, run.teacher.digest))
    if len(references) > 1:
        work.note(
            "table",
            f"These students learned from {len(references)} different teachers; "
            "each is compared with its own.",
        )
    folders = {run.teacher.digest: work.teacher(run) for run in references}
    speeds, teacher_speeds = work.speeds(groups, folders)
    return TaskFindings(
        task=task,
        metric=groups[0].runs[0].metric,
        split=groups[0].runs[0].split,
        groups=groups,
        teachers=tuple(
            _teacher_row(run, folders[run.teacher.digest], teacher_speeds) for run in references
        ),
        speeds=speeds,
        device=str(work.device.type) if speeds else None,
        cost=work.cost(task, runs),
        similarities=work.similarities(groups),
        notes=work.all_notes(),
    )


def size_key(run: StudentRun) -> SizeKey:
    """What decides a student's speed."""
    return run.depth, run.parameters


def representatives(groups: Sequence[Group]) -> list[StudentRun]:
    """One run per strategy for the layer pictures: the lowest seed, at one depth for all.

    The depth is the one that most strategies have (the deepest of several); a strategy without it
    is shown at its deepest.
    """
    strategies: dict[str, dict[int, Group]] = {}
    for group in groups:
        strategies.setdefault(group.strategy, {}).setdefault(group.depth, group)
    depths = sorted({group.depth for group in groups})
    common = max(
        depths, key=lambda depth: (sum(depth in has for has in strategies.values()), depth)
    )
    return [has.get(common, has[max(has)]).runs[0] for has in strategies.values()]


def plain_name(name: str) -> bool:
    """Whether a name from a record is a name and no path."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def without_path(error: object, path: Path) -> str:
    """An error's text with `path` cut to its last name: reports hold no machine's paths."""
    text = str(error)
    for shown in (str(path.resolve()), str(path)):
        text = text.replace(shown, path.name)
    return text.rstrip(".")


def _teacher_row(
    run: StudentRun, folder: tuple[TeacherRun, Any] | None, speeds: Mapping[str, Speed]
) -> TeacherRow:
    known = run.teacher
    return TeacherRow(
        known=known,
        layers=run.teacher_layers,
        parameters=folder[0].parameters if folder else known.parameters,
        size_bytes=folder[0].size_bytes if folder else None,
        speed=speeds.get(known.digest),
    )


class _Gathering:
    """Sources that may be missing, opened once each, and the notes of what was."""

    def __init__(self, sources: Sources, params: ReportParams, tick: Tick) -> None:
        self.sources = sources
        self.params = params
        self.tick = tick
        self.device = pick_device(params.device)
        self.notes: dict[str, list[str]] = {}
        self._reasons: dict[tuple[str, str, str], list[str]] = {}
        self._caches: dict[tuple[str, str], CacheView | str] = {}

    def note(self, place: str, text: str) -> None:
        """Say once, in its place, what is left out."""
        told = self.notes.setdefault(place, [])
        if text not in told:
            told.append(text)

    def leave_out(self, place: str, what: str, run: StudentRun, error: PipelineError) -> None:
        """Note that something is left out for a run; runs with one reason share one line."""
        names = self._reasons.setdefault((place, what, without_path(error, run.folder)), [])
        names.append(run.name)

    def all_notes(self) -> dict[str, list[str]]:
        """Every note, by place."""
        for (place, what, reason), names in self._reasons.items():
            self.note(place, f"{what} for {listed(names)}: {reason}.")
        return self.notes

    def teacher(self, run: StudentRun) -> tuple[TeacherRun, Any] | None:
        """The teacher's record and its loaded model, when it is the one that `run` learned from."""
        from pipeline.models import identify_model, load_classifier

        name = run.teacher.name if plain_name(run.teacher.name) else run.task
        folder = self.sources.teachers / name
        try:
            if not plain_name(name) or not folder.is_dir():
                raise DataError("its folder is not here")
            record = load_teacher(folder)
            model = load_classifier(str(folder))
            if identify_model(model) != run.teacher.digest:
                raise DataError("the folder holds another model than these students learned from")
        except PipelineError as error:
            reason = without_path(error, folder)
            self.note(
                "table", f"Teacher {run.teacher.name}: {reason}; its size and speed are left out."
            )
            return None
        return record, model

    def cache(self, run: StudentRun) -> CacheView:
        """The cache that `run` learned from; raises PipelineError without a path when it is not."""
        key = (run.cache_name, run.split)
        if key not in self._caches:
            self._caches[key] = self._open(*key)
        found = self._caches[key]
        if isinstance(found, str):
            raise DataError(found)
        found.require_for(run)
        return found

    def _open(self, name: str, split: str) -> CacheView | str:
        path = self.sources.caches / name
        if not plain_name(name) or not path.is_dir():
            return f"the cache {name} is not here"
        try:
            return open_cache(path, split)
        except PipelineError as error:
            return without_path(error, path)

    def cost(self, task: str, runs: Sequence[StudentRun]) -> Cost | None:
        """Cost of the cache against live teachers."""
        name = f"cache-{task}.json" if plain_name(task) else "cache metrics"
        try:
            found = cost_of(load_cache_build(self.sources.metrics / name), runs)
        except DataError as error:
            self.note("cost", f"Left out: the build time of the cache is not known ({error}).")
            return None
        if found is None:
            self.note("cost", "Left out: none of these students asked a teacher for anything.")
        return found

    def similarities(self, groups: Sequence[Group]) -> tuple[LayerSimilarity, ...]:
        """Layer pictures of one student per strategy."""
        if not self.params.similarity_rows:
            self.note("similarity", "Left out: similarity_rows is 0.")
            return ()
        chosen = representatives(groups)
        found = []
        for done, run in enumerate(chosen, start=1):
            try:
                found.append(self._similarity(run))
            except PipelineError as error:
                self.leave_out("similarity", "Left out", run, error)
            self.tick(f"{run.task}: layer similarity", done, len(chosen))
        return tuple(found)

    def _similarity(self, run: StudentRun) -> LayerSimilarity:
        from pipeline.models import load_classifier

        view = self.cache(run)
        model = load_classifier(str(run.folder))
        return layer_similarity(run, model, view, self.params.similarity_rows, self.device)

    def speeds(
        self, groups: Sequence[Group], teachers: Mapping[str, tuple[TeacherRun, Any] | None]
    ) -> tuple[dict[SizeKey, Speed], dict[str, Speed]]:
        """Measured speeds: of students by size, of teachers by digest."""
        if not self.params.latency_rows:
            self.note("table", "Inference speed not measured: latency_rows is 0.")
            return {}, {}
        models, view = self._models_of_each_size(groups)
        if view is None:
            return {}, {}
        for digest, folder in teachers.items():
            if folder:
                models[digest] = folder[1]
        tokens = view.rows()
        found = measure(models, tokens, self.params.latency_rows, self.device, self._named(groups))
        students = {key: speed for key, speed in found.items() if not isinstance(key, str)}
        return students, {key: speed for key, speed in found.items() if isinstance(key, str)}

    def _named(self, groups: Sequence[Group]) -> Tick:
        """A tick whose work carries the task's name: bars of two tasks are two bars."""
        task = groups[0].runs[0].task

        def tick(what: str, done: int, total: int, **figures: float) -> None:
            self.tick(f"{task}: {what}", done, total, **figures)

        return tick

    def _models_of_each_size(
        self, groups: Sequence[Group]
    ) -> tuple[dict[SizeKey | str, Any], CacheView | None]:
        from pipeline.models import load_classifier

        models: dict[SizeKey | str, Any] = {}
        view = None
        for run in (group.runs[0] for group in groups):
            if size_key(run) in models:
                continue
            try:
                view = self.cache(run)
                models[size_key(run)] = load_classifier(str(run.folder))
            except PipelineError as error:
                self.leave_out("table", "Inference speed not measured", run, error)
        return models, view if models else None
