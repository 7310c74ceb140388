"""What the cache costs and saves."""

from __future__ import annotations

from pipeline.report.figures.savings import draw_savings
from pipeline.report.findings import TaskFindings
from pipeline.report.rows import cost_lines
from pipeline.report.section import Picture, Section, plain_table


def cost_section(found: TaskFindings, slug: str) -> Section:
    """Teacher time with and without the cache."""
    lines = cost_lines(found)
    return Section(
        heading="What the cache costs and saves",
        slug=f"{slug}-cost",
        tables=(plain_table(lines),) if lines else (),
        pictures=_pictures(found, slug),
        beside=True,
        notes=tuple(found.notes.get("cost", ())),
    )


def _pictures(found: TaskFindings, slug: str) -> tuple[Picture, ...]:
    if found.cost is None:
        return ()
    label = f"{found.task}: teacher time with and without the cache"
    svg = draw_savings(found.cost, slug=f"{slug}-savings")
    return (Picture(slug=f"{slug}-savings", label=label, svg=svg),)
