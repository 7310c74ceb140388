"""The folders that a report is made from: any of them may be missing, and then a note says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, PipelineError
from pipeline.report.formats import listed
from pipeline.report.load import load_cache_build, load_teacher
from pipeline.report.paths import plain_name, without_paths
from pipeline.report.records import CacheBuild, StudentRun, TeacherRun
from pipeline.report.tokens import CacheView, open_cache


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the report looks."""

    students: Path
    teachers: Path
    caches: Path
    metrics: Path


class Notes:
    """What is left out and why, by place; runs with one reason share one line."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}
        self._runs: dict[tuple[str, str, str], list[str]] = {}

    def add(self, place: str, line: str) -> None:
        """Add a line."""
        self._lines.setdefault(place, []).append(line)

    def leave_out(self, place: str, what: str, run: StudentRun, error: PipelineError) -> None:
        """Say that `what` is left out for a run."""
        reason = without_paths(error, run.folder).removeprefix(f"{run.name}: ")
        self._runs.setdefault((place, what, reason), []).append(run.name)

    def by_place(self) -> dict[str, list[str]]:
        """All lines."""
        lines = {place: list(told) for place, told in self._lines.items()}
        for (place, what, reason), names in self._runs.items():
            lines.setdefault(place, []).append(f"{what} for {listed(names)}: {reason}.")
        return lines


class OpenSources:
    """Sources of one task; each cache is opened once. Errors are PipelineErrors without paths."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._caches: dict[tuple[str, str], CacheView | PipelineError] = {}

    def teacher(self, run: StudentRun) -> tuple[TeacherRun, Any]:
        """The record and the loaded model of the teacher that `run` learned from."""
        from pipeline.models.identity import identify_model
        from pipeline.models.load import load_classifier

        name = run.teacher.name if plain_name(run.teacher.name) else run.task
        folder = self._sources.teachers / name
        if not plain_name(name) or not folder.is_dir():
            raise DataError("its folder is not here")
        try:
            record, model = load_teacher(folder), load_classifier(str(folder))
        except PipelineError as error:
            raise DataError(without_paths(error, folder).removeprefix(f"{name}: ")) from None
        if identify_model(model) != run.teacher.digest:
            raise DataError("the folder holds another model than these students learned from")
        return record, model

    def cache(self, run: StudentRun) -> CacheView:
        """The cache that `run` learned from."""
        key = (run.cache_name, run.split)
        if key not in self._caches:
            self._caches[key] = self._open(*key)
        found = self._caches[key]
        if isinstance(found, PipelineError):
            raise found
        found.require_for(run)
        return found

    def cache_build(self, task: str) -> CacheBuild:
        """What the build of a task's cache measured."""
        if not plain_name(task):
            raise DataError("no cache metrics")
        return load_cache_build(self._sources.metrics / f"cache-{task}.json")

    def _open(self, name: str, split: str) -> CacheView | PipelineError:
        path = self._sources.caches / name
        if not plain_name(name) or not path.is_dir():
            return DataError(f"the cache {name} is not here")
        try:
            return open_cache(path, split)
        except PipelineError as error:
            return DataError(without_paths(error, path))
