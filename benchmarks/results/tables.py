"""Findings as Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.results.choices import Candidate, Decision
from benchmarks.results.findings import Findings, Row
from pipeline.report.formats import KEEP, mean_std, parameters, percent_fine, points, seconds
from pipeline.report.tables import Sample

EMPTY = "-"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are text, and whose others are numbers."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def results_table(findings: Findings) -> str:
    """A row for the teacher and each method, those without runs too."""
    metrics = findings.metrics
    header = [
        "", *metrics, "of the teacher's", "time per run", "parameters", "training rows",
    ]  # fmt: skip
    rows = [_cells(row, metrics, findings.teacher) for row in findings.all_rows]
    return markdown_table(header, rows)


def _cells(row: Row, metrics: Sequence[str], teacher: Row) -> list[str]:
    if not row.runs:
        return [row.name, *[EMPTY] * (len(metrics) + 4)]
    return [
        row.name,
        *(with_seeds(row.score(metric)) for metric in metrics),
        EMPTY if row is teacher else _kept(row, teacher),
        seconds(median(run.seconds for run in row.runs)),
        _size(row),
        _training_rows(row),
    ]


def with_seeds(sample: Sample) -> str:
    """`79.0 ± 1.2 (3)`; `79.0 (1)`, where one seed says nothing of the spread."""
    return f"{mean_std(sample)}{KEEP}({sample.n})"


def _kept(row: Row, teacher: Row) -> str:
    """Of the mean; nothing is kept of a teacher without a positive score."""
    if not teacher.runs or teacher.main.mean <= 0:
        return EMPTY
    return percent_fine(row.main.mean / teacher.main.mean)


def _size(row: Row) -> str:
    """Parameters, and the block passes where they are more than the layers."""
    text = " / ".join(parameters(value) for value in row.facts("parameters")) or EMPTY
    layers = row.runs[0].settings.get("student_layers")
    more = [passes for passes in row.facts("block_passes") if layers and passes != layers]
    return text + "".join(f", {passes} block passes" for passes in more)


def _training_rows(row: Row) -> str:
    """`2,000 + 18,000`: labelled and unlabelled."""
    found = []
    for run in row.runs:
        rows, labelled = run.facts.get("train_rows"), run.facts.get("labelled_rows")
        if rows is None or labelled is None:
            continue
        text = f"{labelled:,}" + (f"{KEEP}+{KEEP}{rows - labelled:,}" if rows > labelled else "")
        found += [text] if text not in found else []
    return " / ".join(found) or EMPTY


def choices_table(findings: Findings) -> str:
    """A row for each candidate."""
    score = f"{' / '.join(findings.metrics)}, held-out rows"
    used = {row.method.strategy for row in findings.rows if row.method}
    rows = [
        _candidate_cells(decision, each, used)
        for decision in findings.decisions
        for each in decision.candidates
    ]
    header = ["tried with", "taken over by", "settings", "", score]
    return markdown_table(header, rows, texts=4)


def _candidate_cells(decision: Decision, candidate: Candidate, used: set[str]) -> list[str]:
    scores = candidate.record.scores.values() if candidate.record else ()
    return [
        decision.method,
        ", ".join(sorted(decision.taken_by & used)) or decision.method,
        settings_text(candidate.values),
        "chosen" if candidate is decision.best else "",
        " / ".join(points(value) for value in scores) or EMPTY,
    ]


def settings_text(values: Mapping[str, Any]) -> str:
    """`alpha 0.5, temperature 10`."""
    return ", ".join(f"{key}{KEEP}{_plain(value)}" for key, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
