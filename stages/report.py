"""`pkd-report`: one page that says what the runs gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages import cli as shared
from stages.progress import progress


@shared.commands("pkd-report", "Tables, curves and costs of all runs, as Markdown and HTML.")
def cli() -> None:
    """Group of the report's commands."""


@cli.command()
@shared.path_option(
    "--students", "Folder of student runs.", default="data/students", show_default=True
)
@shared.path_option("--teachers", "Folder of teachers.", default="data/teachers", show_default=True)
@shared.path_option("--caches", "Folder of teacher caches.", default="data", show_default=True)
@shared.path_option(
    "--metrics", "Folder of cache metrics.", default="data/metrics", show_default=True
)
@shared.path_option("--out", "Where the report goes.", default="data/report", show_default=True)
@shared.with_params("report")
@shared.json_option
def build(
    students: Path,
    teachers: Path,
    caches: Path,
    metrics: Path,
    out: Path,
    as_json: bool,
    **flags: Any,
) -> None:
    """Write report.md, report.html, metrics.json and the tables for `dvc plots`.

    Whatever is missing (a teacher, a cache, its metrics) is left out and said so in its place; a
    folder that is no run is named and skipped. An older report is replaced.

    \b
    Example:
      pkd-report build --students data/students --out data/report
    """
    from pipeline.report.build import build_report
    from pipeline.report.sources import Sources

    params, _ = shared.resolve("report", flags, task=None)
    sources = Sources(students=students, teachers=teachers, caches=caches, metrics=metrics)
    with progress() as tick:
        result = build_report(sources, out, params, tick)
    shared.emit(result, as_json, _text(result))


def _text(result: dict[str, Any]) -> str:
    lines = [
        f"  {task}  {key}: {_score(values)}"
        for task, rows in result["tasks"].items()
        for key, values in rows.items()
    ]
    skipped = [f"  skipped {name}: {reason}" for name, reason in result["skipped"].items()]
    return "\n".join([f"{result['report']}: {result['students']} students", *lines, *skipped])


def _score(values: dict[str, float]) -> str:
    mean = f"{values['mean']:.4f}"
    if "n" not in values:
        return mean
    spread = f" ± {values['std']:.4f}" if "std" in values else ""
    return f"{mean}{spread} (n={values['n']})"
