"""From run folders to a report folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import OutputExistsError, PipelineError
from pipeline.files import building, write_json
from pipeline.params import ReportParams
from pipeline.progress import Tick, silent
from pipeline.report.exports import curves_csv, metrics_of, scores_csv
from pipeline.report.figures.svg import for_file
from pipeline.report.findings import TaskFindings
from pipeline.report.gather import gather
from pipeline.report.load import load_students
from pipeline.report.page import Page, make_page
from pipeline.report.records import Skipped
from pipeline.report.render import render_html, render_markdown
from pipeline.report.sources import Sources
from pipeline.report.tables import by_task

FIGURES = "figures"
FILES = frozenset(
    {"report.md", "report.html", "metrics.json", "scores.csv", "curves.csv", FIGURES, ".gitignore"}
)


def build_report(
    sources: Sources, out: Path, params: ReportParams, tick: Tick = silent
) -> dict[str, Any]:
    """Write a report folder, replacing an older report.

    Returns:
        What was written: tasks with their metrics, the folders skipped, the paths.

    Raises:
        PipelineError: no readable run.
        OutputExistsError: `out` holds something that is no report.
    """
    _require_report_or_nothing(out)
    runs, skipped = load_students(sources.students)
    if not runs:
        raise PipelineError(_no_runs(sources.students, skipped))
    findings = [
        gather(task, of_task, sources, params, tick) for task, of_task in by_task(runs).items()
    ]
    page = make_page(findings, skipped)
    with building(out) as folder:
        _write(folder, findings, page)
    return {
        "tasks": metrics_of(findings),
        "students": len(runs),
        "skipped": {each.name: each.reason for each in skipped},
        "report": str(out / "report.html"),
        "markdown": str(out / "report.md"),
    }


def _write(folder: Path, findings: Sequence[TaskFindings], page: Page) -> None:
    (folder / FIGURES).mkdir()
    for picture in page.pictures:
        svg = for_file(picture.svg, picture.label)
        (folder / FIGURES / f"{picture.slug}.svg").write_text(svg, "utf-8")
    (folder / "report.html").write_text(render_html(page), "utf-8")
    (folder / "report.md").write_text(render_markdown(page), "utf-8")
    (folder / "scores.csv").write_text(scores_csv(findings), "utf-8")
    (folder / "curves.csv").write_text(curves_csv(findings), "utf-8")
    write_json(folder / "metrics.json", metrics_of(findings))


def _require_report_or_nothing(out: Path) -> None:
    """Refuse to replace a folder that holds anything but a report."""
    if out.is_dir() and not out.is_symlink():
        strange = sorted(child.name for child in out.iterdir() if child.name not in FILES)
        if not strange:
            return
        found = f"it holds {strange[0]}"
    elif not out.exists() and not out.is_symlink():
        return
    else:
        found = "it is no folder"
    raise OutputExistsError(
        f"{out}: not a report ({found}), so it is not replaced; choose another --out."
    )


def _no_runs(folder: Path, skipped: Sequence[Skipped]) -> str:
    train = "train one with `pkd-student fit --cache data/rte.zarr --strategy skip`"
    if not folder.is_dir():
        return f"{folder}: no such folder; {train}, or name another with --students."
    told = "".join(f"\n  {each.name}: {each.reason}" for each in skipped)
    return f"{folder}: no student run to report on; {train}.{told}"
