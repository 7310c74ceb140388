"""What `pkd-student bench` measured of a task's students: models in every runtime, by shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.bench.contenders import RUNTIMES, TEACHER
from pipeline.errors import DataError, PipelineError
from pipeline.report.fields import (
    Scores,
    count,
    mapping,
    number,
    optional_count,
    optional_number,
    read_scores,
    text,
)
from pipeline.report.load import FORMAT, read_record
from pipeline.report.records import Skipped, StudentRun

Shape = tuple[int, int]
"""Rows of a call, tokens of a row."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Calls of one model with one shape."""

    p50_ms: float
    p95_ms: float
    rows_per_second: float


@dataclass(frozen=True, kw_only=True)
class BenchModel:
    """One model in one runtime."""

    name: str
    """`rte-skip-3-s0, ONNX int8`."""
    model: str
    """Name of the folder whose weights it runs."""
    digest: str
    """Of its weights and configuration."""
    is_teacher: bool
    runtime: str
    """`PyTorch`, `ONNX`, `ONNX int8`."""
    device: str
    size_bytes: int | None
    scores: Scores
    """Of an export, where it has measured its own; else empty."""
    timings: Mapping[Shape, Timing]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One bench."""

    name: str
    models: tuple[BenchModel, ...]
    """In the order of their turns: the teacher first, if there."""
    shapes: tuple[Shape, ...]
    """By tokens of a row, then rows of a call."""
    processor: str
    cores: int
    threads: int
    """Of a call."""
    load: float | None
    """Before the first call; None where the system does not say."""

    @property
    def teacher(self) -> BenchModel | None:
        """What speed-ups refer to."""
        return next((each for each in self.models if each.is_teacher), None)


def load_benches(
    metrics: Path, runs: Sequence[StudentRun], digest_of: Callable[[StudentRun], str]
) -> tuple[list[Bench], list[Skipped]]:
    """Read every bench that measured one of these runs, by name.

    Args:
        metrics: folder of `bench-NAME.json`.
        runs: those of one task.
        digest_of: of the weights and configuration in a run's folder, as they are now.

    Returns:
        The benches, without models of other tasks, and what is left out, with the reason: files
        that are no bench, and students that were trained again since.
    """
    found, skipped = [], []
    for path in sorted(metrics.glob("bench-*.json")):
        try:
            bench = parse_bench(read_record(path))
            fresh, stale = _ours(bench, runs, digest_of)
        except PipelineError as error:
            skipped.append(Skipped(name=path.name, reason=str(error)))
            continue
        if stale:
            told = f"{', '.join(stale)} has been trained again since; measure it again"
            skipped.append(Skipped(name=path.name, reason=told))
        if any(not each.is_teacher for each in fresh):
            found.append(replace(bench, models=tuple(fresh)))
    return found, skipped


def _ours(
    bench: Bench, runs: Sequence[StudentRun], digest_of: Callable[[StudentRun], str]
) -> tuple[list[BenchModel], list[str]]:
    """The models of these runs and of their teachers; names of runs with other weights now."""
    known = {run.name: run for run in runs}
    teachers = {run.teacher.digest for run in runs}
    fresh, stale = [], set()
    for each in bench.models:
        if each.is_teacher:
            fresh += [each] if each.digest in teachers else []
        elif each.model in known:
            if digest_of(known[each.model]) == each.digest:
                fresh.append(each)
            else:
                stale.add(each.model)
    return fresh, sorted(stale)


def parse_bench(record: Mapping[str, Any]) -> Bench:
    """Check a bench's record; raises DataError naming the field."""
    if record.get("kind") != "bench" or record.get("format") != FORMAT:
        found = f"{record.get('kind')!r} and {record.get('format')!r}"
        raise DataError(f"`kind` and `format` are {found}, not 'bench' and {FORMAT}")
    timings: dict[str, dict[Shape, Timing]] = {}
    for each in _records(record, "timings"):
        shape = count(each, "batch_size"), count(each, "length")
        timings.setdefault(text(each, "name"), {})[shape] = _timing(each)
    models = tuple(_model(each, timings) for each in _records(record, "contenders"))
    shapes = {shape for each in timings.values() for shape in each}
    if not shapes or any(set(each.timings) != shapes for each in models):
        raise DataError("`timings` are not of every model and shape")
    machine = mapping(record, "machine")
    return Bench(
        name=text(record, "name"),
        models=models,
        shapes=tuple(sorted(shapes, key=lambda shape: (shape[1], shape[0]))),
        processor=text(machine, "processor"),
        cores=count(machine, "cores"),
        threads=count(machine, "threads"),
        load=optional_number(machine, "load_before"),
    )


def _records(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise DataError(f"`{key}` is no list of records")
    return value


def _timing(record: Mapping[str, Any]) -> Timing:
    found = Timing(
        p50_ms=number(record, "p50_ms"),
        p95_ms=number(record, "p95_ms"),
        rows_per_second=number(record, "rows_per_second"),
    )
    if found.p50_ms <= 0:
        raise DataError(f"`p50_ms` is {found.p50_ms}, not a time")
    return found


def _model(record: Mapping[str, Any], timings: Mapping[str, Mapping[Shape, Timing]]) -> BenchModel:
    name, runtime = text(record, "name"), text(record, "runtime")
    if runtime not in RUNTIMES:
        raise DataError(f"`runtime` is {runtime!r}, not one of {', '.join(RUNTIMES)}")
    return BenchModel(
        name=name,
        model=text(record, "model"),
        digest=text(record, "digest"),
        is_teacher=record.get("role") == TEACHER,
        runtime=RUNTIMES[runtime],
        device=text(record, "device"),
        size_bytes=optional_count(record, "size_bytes"),
        scores=read_scores(record.get("scores") or {}, "scores"),
        timings=timings.get(name, {}),
    )
