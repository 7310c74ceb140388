"""Training curves, a section for each depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report import formats
from pipeline.report.figures.curves import TERM_NAMES, Value, curve_of, draw_curves
from pipeline.report.findings import TaskFindings
from pipeline.report.palette import Style
from pipeline.report.records import Epoch
from pipeline.report.section import Picture, Section
from pipeline.report.tables import Group, readable


def training_sections(found: TaskFindings, slug: str, styles: Mapping[str, Style]) -> list[Section]:
    """The score and every loss term by epoch."""
    sections = []
    for depth in sorted({group.depth for group in found.groups}):
        groups = [group for group in found.groups if group.depth == depth]
        shown = readable(groups)
        panels = _panels(found, shown, f"{slug}-{depth}", styles)
        chosen = "" if len(shown) == len(groups) else ", the best row of each strategy"
        if panels:
            heading = f"Training, {formats.counted(depth, 'layer')}{chosen}"
            place = f"{slug}-training-{depth}"
            sections.append(Section(heading=heading, slug=place, pictures=tuple(panels)))
    return sections


def _panels(
    found: TaskFindings, groups: Sequence[Group], slug: str, styles: Mapping[str, Style]
) -> list[Picture]:
    """Validation score, then each loss term that any of the groups has."""

    def score(epoch: Epoch) -> float | None:
        return epoch.scores.get(found.split, {}).get(found.metric)

    teacher = found.teacher_score
    reference = None if teacher is None else (teacher, "teacher")
    panels = []
    curves = [curve for group in groups if (curve := curve_of(group, score))]
    if curves:
        heading = f"Validation {found.metric}, ×100"
        svg = draw_curves(
            curves, styles, heading=heading, slug=f"{slug}-score", scale=100, reference=reference
        )
        panels.append(Picture(slug=f"{slug}-score", label=f"{found.task}: {heading}", svg=svg))
    for term, name in TERM_NAMES.items():
        curves = [c for group in groups if (c := curve_of(group, _loss(term)))]
        if curves:
            svg = draw_curves(curves, styles, heading=name, slug=f"{slug}-{term}")
            panels.append(Picture(slug=f"{slug}-{term}", label=f"{found.task}: {name}", svg=svg))
    return panels


def _loss(term: str) -> Value:
    return lambda epoch: epoch.losses.get(term)
