"""Latency and throughput, as `pkd-student bench` measured them."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.bench.contenders import RUNTIMES
from pipeline.report import formats
from pipeline.report.benches import Bench, BenchModel, Shape
from pipeline.report.findings import TaskFindings
from pipeline.report.records import StudentRun
from pipeline.report.rows import UNKNOWN
from pipeline.report.section import Row, Section, Table


def bench_sections(found: TaskFindings, slug: str) -> list[Section]:
    """A section for each bench; one with notes alone when something is left out."""
    notes = tuple(found.notes.get("benches", ()))
    runs = {run.name: run for run in found.runs}
    sections = [
        Section(
            heading=f"Bench {bench.name}: latency and throughput",
            slug=f"{slug}-bench-{index}",
            texts=(_text(bench),),
            tables=(_table(found, bench, runs),),
        )
        for index, bench in enumerate(found.benches, start=1)
    ]
    return [
        *sections,
        *([Section(heading="Benches", slug=f"{slug}-benches", notes=notes)] if notes else []),
    ]


def _text(bench: Bench) -> str:
    load = "" if bench.load is None else f", load {bench.load:.1f} before"
    ratio = (
        " In brackets: how many times faster than the teacher's call of that shape."
        if bench.teacher
        else ""
    )
    return (
        "Median of a call in milliseconds, by rows of a call × tokens of a row; then rows a second "
        f"of {_shape(_widest(bench))}. The models took turns on rows without padding, float32 but "
        f"where int8 is named.{ratio} {bench.processor}, {formats.counted(bench.cores, 'core')}, "
        f"{formats.counted(bench.threads, 'thread')} a call{load}."
    )


def _table(found: TaskFindings, bench: Bench, runs: Mapping[str, StudentRun]) -> Table:
    shapes = [_shape(shape) for shape in bench.shapes]
    columns = ("model", "runtime", found.metric, "size", *shapes, "rows/s")
    return Table(
        columns=columns, rows=tuple(_row(found, bench, each, runs) for each in bench.models)
    )


def _row(
    found: TaskFindings, bench: Bench, model: BenchModel, runs: Mapping[str, StudentRun]
) -> Row:
    size = UNKNOWN if model.size_bytes is None else formats.size(model.size_bytes)
    where = "" if model.device == "cpu" else f", {model.device}"
    return Row(
        cells=(
            f"teacher {model.model}" if model.is_teacher else model.model,
            model.runtime + where,
            _score(found, model, runs),
            size,
            *(_time(bench, model, shape) for shape in bench.shapes),
            formats.rate(model.timings[_widest(bench)].rows_per_second),
        ),
        is_teacher=model.is_teacher,
    )


def _score(found: TaskFindings, model: BenchModel, runs: Mapping[str, StudentRun]) -> str:
    """Measured by the export, else that of the weights as they were trained; int8 has others."""
    measured = model.scores.get(found.split, {}).get(found.metric)
    if measured is not None:
        return formats.points(measured)
    if model.runtime == RUNTIMES["int8"]:
        return UNKNOWN
    if not model.is_teacher:
        return formats.points(runs[model.model].score)
    return UNKNOWN if found.teacher_score is None else formats.points(found.teacher_score)


def _time(bench: Bench, model: BenchModel, shape: Shape) -> str:
    milliseconds = model.timings[shape].p50_ms
    ratio = ""
    if bench.teacher and not model.is_teacher:
        faster = bench.teacher.timings[shape].p50_ms / milliseconds
        ratio = f"{formats.KEEP}({formats.times(faster)})"
    return f"{milliseconds:,.1f}{ratio}"


def _shape(shape: Shape) -> str:
    return f"{shape[0]}{formats.KEEP}×{formats.KEEP}{shape[1]}"


def _widest(bench: Bench) -> Shape:
    """The longest rows in the largest batches."""
    return bench.shapes[-1]
