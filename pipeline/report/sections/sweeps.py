"""Sweeps: which parameters mattered, and which students won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report import formats
from pipeline.report.figures.sweep import draw_sweep
from pipeline.report.findings import TaskFindings
from pipeline.report.formats import counted, listed, percent
from pipeline.report.section import Picture, Row, Section, Table
from pipeline.report.sweeps import Sweep

BEST = 5  # students in the table


def sweep_sections(found: TaskFindings, slug: str) -> list[Section]:
    """A section for each sweep; one with notes alone when there is none."""
    notes = tuple(found.notes.get("sweeps", ()))
    sections = [
        _section(found, sweep, f"{slug}-sweep-{index}")
        for index, sweep in enumerate(found.sweeps, start=1)
    ]
    return [
        *sections,
        *([Section(heading="Sweeps", slug=f"{slug}-sweeps", notes=notes)] if notes else []),
    ]


def _section(found: TaskFindings, sweep: Sweep, slug: str) -> Section:
    label = f"{found.task}: score by the values of each parameter of sweep {sweep.name}"
    svg = draw_sweep(sweep, slug=f"{slug}-values") if sweep.trials else ""
    return Section(
        heading=f"Sweep {sweep.name}: what mattered",
        slug=slug,
        texts=(_text(sweep),),
        tables=(_parameters(sweep), _best(sweep)) if sweep.trials else (),
        pictures=(Picture(slug=f"{slug}-values", label=label, svg=svg),) if svg else (),
    )


def _text(sweep: Sweep) -> str:
    failed = f", {sweep.failed} more failed" if sweep.failed else ""
    opening = f"{counted(len(sweep.trials), 'student')}{failed}; validation {sweep.metric}, ×100."
    if not sweep.importance:
        return f"{opening} Importance is left out: {sweep.doubt}."
    shares = [f"{name} {percent(share)}" for name, share in sweep.importance.items()]
    return (
        f"{opening} Importance: {listed(shares)}: the share of the score's variance that each "
        "parameter explains by itself (fANOVA of a random forest, by Optuna), as far as so many "
        "students tell."
    )


def _parameters(sweep: Sweep) -> Table:
    names = sorted(sweep.space, key=lambda name: -sweep.importance.get(name, 0.0))
    return Table(
        columns=("parameter", "importance", "best value", "mean with it", "worst value", "mean"),
        rows=tuple(_parameter(sweep, name) for name in names),
    )


def _parameter(sweep: Sweep, name: str) -> Row:
    share = sweep.importance.get(name)
    importance = "–" if share is None else percent(share)
    if "values" not in sweep.space[name]:
        best = sweep.trials[0]
        return Row(
            cells=(
                name,
                importance,
                f"{value_text(best.point[name])} (best student)",
                "–",
                "–",
                "–",
            )
        )
    (value, mean), *rest = sweep.means(name)
    worst = rest[-1] if rest else None
    return Row(
        cells=(
            name,
            importance,
            value_text(value),
            formats.points(mean),
            value_text(worst[0]) if worst else "–",
            formats.points(worst[1]) if worst else "–",
        )
    )


def _best(sweep: Sweep) -> Table:
    names = tuple(sweep.space)
    return Table(
        columns=(sweep.metric, *names, "best students"),
        rows=tuple(
            Row(cells=(formats.points(each.score), *_values(each.point, names), each.student))
            for each in sweep.trials[:BEST]
        ),
    )


def _values(point: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value_text(point[name]) for name in names)


def value_text(value: Any) -> str:
    """`0.0005`, `skip`, `none`."""
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
