"""The worst disagreements of a task with their texts; what cannot be had becomes a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.errors import PipelineError
from pipeline.report.answers.disagreements import Disagreement, worst
from pipeline.report.answers.texts import load_decoder, texts_of
from pipeline.report.answers.types import Answers
from pipeline.report.sources import Notes
from pipeline.report.tables import Group
from pipeline.report.tokens import CacheView

PLACE = "disagreements"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows to be read by people."""

    groups: tuple[tuple[Group, tuple[Disagreement, ...]], ...] = ()
    texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By place in the split."""


def gather_examples(
    answers: Answers, view: CacheView, groups: Sequence[Group], most: int, notes: Notes
) -> Examples:
    """The surest mistakes of each group.

    Args:
        answers: of a task of classes.
        view: the cache that has the rows.
        groups: those to be shown.
        most: rows of each; 0 = none, and a note says so.
        notes: told of what is left out.
    """
    if not most:
        notes.add(PLACE, "Left out: disagreements is 0.")
        return Examples()
    shown = {group.key for group in groups}
    found = tuple(
        (each.group, tuple(worst(answers, each, most)))
        for each in answers.groups
        if each.group.key in shown
    )
    places = sorted({row.place for _, rows in found for row in rows})
    run = answers.groups[0].group.runs[0]
    try:
        texts = texts_of(view, load_decoder(run.folder, view), places) if places else {}
    except PipelineError as error:
        notes.leave_out(PLACE, "Texts are left out", run, error)
        texts = {}
    return Examples(groups=found, texts=texts)
