"""The surest mistakes of students where the teacher is right, as text."""

from __future__ import annotations

from pipeline.report import formats
from pipeline.report.answers.disagreements import Disagreement
from pipeline.report.findings import TaskFindings
from pipeline.report.section import Fold, Quote, Section
from pipeline.report.sections.shown import named


def disagreement_section(found: TaskFindings, slug: str) -> Section | None:
    """A fold for each group of students; None for a task of numbers, or without answers."""
    if found.answers is None or found.answers.is_regression:
        return None
    folds = []
    for group, rows in found.disagreements:
        quotes = tuple(_quote(found, each) for each in rows)
        told = "none: right wherever the teacher is" if not quotes else f"{len(quotes)} rows"
        folds.append(Fold(summary=f"{named(group)}: {told}", quotes=quotes))
    text = (
        "Rows where the teacher is right and the student is wrong, those first where it is surest. "
        "Of several seeds, the mean of their probabilities. Texts are decoded from the cache."
    )
    return Section(
        heading="Worst disagreements",
        slug=f"{slug}-disagreements",
        texts=(text,) if folds else (),
        folds=tuple(folds),
        notes=tuple(found.notes.get("disagreements", ())),
    )


def _quote(found: TaskFindings, row: Disagreement) -> Quote:
    names = found.answers.label_names if found.answers else ()
    seeds = f", wrong with {row.wrong_seeds} of {row.seeds} seeds" if row.seeds > 1 else ""
    said = (
        f"{names[row.label]} (teacher {formats.percent(row.teacher_confidence)}); the student says "
        f"{names[row.said]} ({formats.percent(row.confidence)}{seeds})"
    )
    return Quote(texts=found.texts.get(row.place, ()), said=said)
