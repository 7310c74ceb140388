"""Numbers for DVC: a metrics file, and tables that `dvc plots` draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.report.findings import TaskFindings
from pipeline.report.formats import KEEP, counted
from pipeline.report.records import Epoch, StudentRun
from pipeline.report.tables import Group

WHO = ("panel", "model", "task", "strategy", "depth", "seed", "run")
"""Both tables begin with these; `panel` and `model` are what the plot templates group by."""
SCORE_COLUMNS = (*WHO, "metric", "score", "kept")
CURVE_COLUMNS = (*WHO, "term", "epoch", "step", "value")
DIGITS = 6


def metrics_of(findings: Sequence[TaskFindings]) -> dict[str, Any]:
    """Task -> `skip-3` -> mean, std (not with one seed), n, kept; and the teacher's score."""
    content: dict[str, Any] = {}
    for found in findings:
        rows = {group.key: _metrics(group) for group in found.groups}
        scores = [t.known.scores.get(found.split, {}).get(found.metric) for t in found.teachers]
        if len(scores) == 1 and scores[0] is not None:
            rows["teacher"] = {"mean": round(scores[0], DIGITS)}
        content[found.task] = rows
    return content


def _metrics(group: Group) -> dict[str, float]:
    score = group.score
    values = {"mean": score.mean, "std": score.std, "kept": group.kept}
    known = {name: round(value, DIGITS) for name, value in values.items() if value is not None}
    return {**known, "n": score.n}


def scores_csv(findings: Sequence[TaskFindings]) -> str:
    """One line per run."""
    return _table(
        SCORE_COLUMNS,
        (
            [*_who(found, group, run), found.metric, _number(run.score), _number(run.kept)]
            for found in findings
            for group in found.groups
            for run in group.runs
        ),
    )


def curves_csv(findings: Sequence[TaskFindings]) -> str:
    """One line per run, epoch and term: ce, kd, pt, total, and the main validation metric."""
    return _table(
        CURVE_COLUMNS,
        (
            [*_who(found, group, run), term, epoch.epoch, epoch.step, _number(value)]
            for found in findings
            for group in found.groups
            for run in group.runs
            for epoch in run.history
            for term, value in _terms(found, epoch)
        ),
    )


def _who(found: TaskFindings, group: Group, run: StudentRun) -> list[str | int]:
    panel = f"{found.task}, {counted(group.depth, 'layer')}".replace(KEEP, " ")
    return [panel, group.label, found.task, run.strategy, run.depth, run.seed, run.name]


def _terms(found: TaskFindings, epoch: Epoch) -> list[tuple[str, float]]:
    terms = [(term, epoch.losses[term]) for term in sorted(epoch.losses)]
    score = epoch.scores.get(found.split, {}).get(found.metric)
    return terms if score is None else [*terms, ("validation score", score)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
