"""Every run with all of its parameters."""

from __future__ import annotations

import json

from pipeline.report import formats
from pipeline.report.findings import TaskFindings
from pipeline.report.records import StudentRun
from pipeline.report.section import Fold, Section


def runs_section(found: TaskFindings, slug: str) -> Section:
    """`run.json` of each student, as it was written."""
    return Section(
        heading="Every run and its parameters",
        slug=f"{slug}-runs",
        texts=(
            "The record of each student, run.json in its folder, with where each value is from.",
        ),
        folds=tuple(_fold(run) for run in found.runs),
    )


def _fold(run: StudentRun) -> Fold:
    took = formats.seconds(run.seconds)
    return Fold(
        summary=f"{run.name}: {run.metric} {formats.points(run.score)}, {took} on {run.device}",
        code=json.dumps(dict(run.record), indent=1, sort_keys=True, ensure_ascii=False),
    )
