"""Who is right where: by class, by length, and beside the teacher.

Shapes: N rows, K outputs, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.report.answers.breakdown import (
    agreement,
    class_scores,
    hit_rate,
    length_bins,
    mean_error,
    rows_in,
)
from pipeline.report.answers.types import Answers, Array, GroupAnswers
from pipeline.report.findings import TaskFindings
from pipeline.report.section import Section, Table
from pipeline.report.sections.shown import model_rows, number_cell, points_cell

MOST_CLASSES = 8
AGREEMENT = (
    "same answer", "both right", "teacher alone", "student alone", "neither", "KL (nats)",
)  # fmt: skip


def breakdown_section(found: TaskFindings, slug: str) -> Section:
    """By class and by length; a note alone when no student has kept its answers."""
    notes = tuple(found.notes.get("answers", ()))
    heading, place = "Right by class and by length", f"{slug}-breakdown"
    if found.answers is None:
        return Section(heading=heading, slug=place, notes=notes)
    classes = () if found.answers.is_regression else (_by_class(found, found.answers),)
    return Section(
        heading=heading,
        slug=place,
        texts=(_rows_text(found, found.answers),),
        tables=(*classes, _by_length(found, found.answers)),
        notes=notes,
    )


def agreement_section(found: TaskFindings, slug: str) -> Section | None:
    """How far students say what their teacher says."""
    if found.answers is None:
        return None
    heading, place = "Agreement with the teacher", f"{slug}-agreement"
    if found.answers.is_regression:
        return Section(heading=heading, slug=place, tables=(_distances(found.answers),))
    text = (
        "Share of the rows, ×100. Teacher alone: it is right and the student wrong, what is left "
        "to learn. Student alone: the other way round. KL is that of the student's probabilities "
        "from the teacher's."
    )
    return Section(heading=heading, slug=place, texts=(text,), tables=(_agreements(found.answers),))


def _rows_text(found: TaskFindings, answers: Answers) -> str:
    rows = f"{len(answers.labels_N):,} labelled rows of {found.split}."
    if answers.is_regression:
        return rows
    return f"{rows} Of each row, the class of the largest logit."


def _teacher_layers(found: TaskFindings) -> str:
    return str(found.runs[0].teacher_layers)


def _by_class(found: TaskFindings, answers: Answers) -> Table:
    rows_K = np.bincount(answers.labels_N, minlength=len(answers.label_names))
    shown = sorted(np.argsort(-rows_K, kind="stable")[:MOST_CLASSES].tolist())
    left = len(answers.label_names) - len(shown)
    rare = f" The {left} rarest classes are left out." if left else ""
    counts = ", ".join(f"{answers.label_names[k]} {rows_K[k]:,}" for k in shown)
    caption = (
        f"By class, ×100. Recall: share of the rows of a class that are found; precision: share of "
        f"those said to be of it that are. Rows: {counts}.{rare}"
    )
    columns = [
        f"{answers.label_names[k]}, {what}" for k in shown for what in ("recall", "precision")
    ]

    def cells(logits: list[Array]) -> tuple[str, ...]:
        scored = [class_scores(answers.labels_N, each) for each in logits]
        return tuple(
            points_cell([getattr(seed[k], what) for seed in scored])
            for k in shown
            for what in ("recall", "precision")
        )

    return _table(found, answers, columns, cells, caption)


def _by_length(found: TaskFindings, answers: Answers) -> Table:
    bins = length_bins(answers.lengths_N)
    what = "Mean absolute error" if answers.is_regression else "Accuracy, ×100,"
    caption = f"{what} by length in tokens; about as many rows in each range."
    masks = [rows_in(answers.lengths_N, ends) for ends in bins]
    columns = [f"{_range(ends)} (n={mask.sum():,})" for ends, mask in zip(bins, masks, strict=True)]

    def cells(logits: list[Array]) -> tuple[str, ...]:
        return tuple(_in_range(answers, mask, logits) for mask in masks)

    return _table(found, answers, columns, cells, caption)


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low}" if low == high else f"{low}–{high}"


def _in_range(answers: Answers, mask_N: Array, logits: list[Array]) -> str:
    labels = answers.labels_N[mask_N]
    if answers.is_regression:
        return number_cell([mean_error(labels, each[mask_N]) for each in logits], digits=2)
    return points_cell([hit_rate(labels, each[mask_N]) for each in logits])


def _table(
    found: TaskFindings,
    answers: Answers,
    columns: list[str],
    cells: Callable[[list[Array]], tuple[str, ...]],
    caption: str,
) -> Table:
    students = [(each.group, cells(list(each.logits_SNK))) for each in answers.groups]
    teacher = (_teacher_layers(found), cells([answers.teacher_NK]))
    return Table(
        columns=("model", "layers", *columns),
        rows=model_rows(teacher, students),
        caption=caption,
    )


def _agreements(answers: Answers) -> Table:
    students = [(each.group, _agreement_cells(answers, each)) for each in answers.groups]
    return Table(columns=("model", "layers", *AGREEMENT), rows=model_rows(None, students))


def _agreement_cells(answers: Answers, of: GroupAnswers) -> tuple[str, ...]:
    seeds = [agreement(answers.labels_N, answers.teacher_NK, each) for each in of.logits_SNK]
    shares = ("same", "both_right", "teacher_alone", "student_alone", "both_wrong")
    return (
        *(points_cell([getattr(seed, name) for seed in seeds]) for name in shares),
        number_cell([seed.divergence for seed in seeds]),
    )


def _distances(answers: Answers) -> Table:
    students = [
        (
            each.group,
            (number_cell([mean_error(answers.teacher_NK[:, 0], s) for s in each.logits_SNK]),),
        )
        for each in answers.groups
    ]
    columns = ("model", "layers", "mean distance from the teacher's number")
    return Table(columns=columns, rows=model_rows(None, students))
