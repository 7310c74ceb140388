"""Calibration before and after distillation."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.report import formats
from pipeline.report.answers.calibration import BINS, Reliability, pooled, reliability
from pipeline.report.answers.types import Answers, GroupAnswers
from pipeline.report.figures.calibration import Diagram, draw_reliability
from pipeline.report.findings import TaskFindings
from pipeline.report.palette import TEACHER_STYLE, Style
from pipeline.report.section import Picture, Section, Table
from pipeline.report.sections.shown import model_rows, number_cell, points_cell, readable_answers

COLUMNS = ("model", "layers", "ECE", "confidence", "accuracy", "gap", "NLL (nats)")
FORMULA = (
    f"Expected calibration error, ECE = Σ n_b / N · |accuracy_b − confidence_b|, over {BINS} bins "
    "of equal width of the largest probability; ×100, the mean over seeds. Gap is confidence "
    "less accuracy: above 0, a model is surer than it is right. finetune is the student before "
    "distillation, the others are after. NLL is the mean negative log likelihood of the labels."
)
DIAGRAMS = (
    "In the diagrams, a dot is a bin, its area the share of the rows, all seeds together; on the "
    "dashed line, a model is right as often as it is sure. Shaded: the gap."
)


def calibration_section(
    found: TaskFindings, slug: str, styles: Mapping[str, Style]
) -> Section | None:
    """Table and reliability diagrams; None for a task of numbers, or without answers."""
    answers = found.answers
    if answers is None or answers.is_regression:
        return None
    return Section(
        heading="Calibration, before and after distillation",
        slug=f"{slug}-calibration",
        texts=(FORMULA, DIAGRAMS),
        tables=(_table(found, answers),),
        pictures=tuple(_pictures(found, answers, slug, styles)),
    )


def _table(found: TaskFindings, answers: Answers) -> Table:
    teacher = _cells([reliability(answers.labels_N, answers.teacher_NK)])
    students = [(each.group, _cells(_of_seeds(answers, each))) for each in answers.groups]
    rows = model_rows((str(found.runs[0].teacher_layers), teacher), students)
    return Table(columns=COLUMNS, rows=rows)


def _of_seeds(answers: Answers, of: GroupAnswers) -> list[Reliability]:
    return [reliability(answers.labels_N, logits_NK) for logits_NK in of.logits_SNK]


def _cells(seeds: list[Reliability]) -> tuple[str, ...]:
    return (
        points_cell([each.error for each in seeds]),
        points_cell([each.confidence for each in seeds]),
        points_cell([each.accuracy for each in seeds]),
        points_cell([each.confidence - each.accuracy for each in seeds]),
        number_cell([each.likelihood for each in seeds]),
    )


def _pictures(
    found: TaskFindings, answers: Answers, slug: str, styles: Mapping[str, Style]
) -> list[Picture]:
    """A picture for each depth; the teacher stands in all of them."""
    shown = readable_answers(answers.groups)
    taught = reliability(answers.labels_N, answers.teacher_NK)
    teacher = Diagram(name="teacher", found=taught, error=taught.error, style=TEACHER_STYLE)
    pictures = []
    for depth in sorted({each.group.depth for each in shown}):
        diagrams = [_diagram(answers, each, styles) for each in shown if each.group.depth == depth]
        layers = formats.counted(depth, "layer")
        heading, place = f"Accuracy by confidence, {layers}", f"{slug}-reliability-{depth}"
        svg = draw_reliability(
            [teacher, *diagrams], 1 / len(answers.label_names), heading=heading, slug=place
        )
        label = f"{found.task}: reliability diagrams, {layers}"
        pictures.append(Picture(slug=place, label=label, svg=svg))
    return pictures


def _diagram(answers: Answers, of: GroupAnswers, styles: Mapping[str, Style]) -> Diagram:
    errors = [each.error for each in _of_seeds(answers, of)]
    return Diagram(
        name=of.group.label,
        found=pooled(answers.labels_N, of.logits_SNK),
        error=sum(errors) / len(errors),
        style=styles[of.group.strategy],
    )
