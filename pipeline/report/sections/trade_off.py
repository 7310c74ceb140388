"""Score against latency and size: which models no other beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.report import formats
from pipeline.report.figures.trade_off import Dot, draw_trade_off
from pipeline.report.findings import TaskFindings
from pipeline.report.frontier import frontier
from pipeline.report.palette import TEACHER_STYLE, Style
from pipeline.report.section import Picture, Row, Section, Table
from pipeline.report.tables import readable

TEXT = (
    "On the frontier, drawn and listed, is every model that no other beats in score at no more "
    "cost; its dot is filled and named by strategy and layers. A mean that leads by less than its "
    "deviation may lead by chance."
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that someone might deploy."""

    label: str
    key: str
    """Strategy, or teacher: one style, one entry in the key."""
    layers: int
    score: float
    spread: float
    """Standard deviation over seeds; 0 with one."""
    size_bytes: int | None
    milliseconds: float | None
    """One row at a time."""


def trade_off_section(
    found: TaskFindings, slug: str, styles: Mapping[str, Style]
) -> Section | None:
    """Two panels and a table of the models on either frontier; None without a second size."""
    models = candidates(found)
    sizes = [each for each in models if each.size_bytes is not None]
    timed = [each for each in models if each.milliseconds is not None]
    if len({each.size_bytes for each in sizes}) < 2:
        return None
    best_sized = _frontier(sizes, [float(each.size_bytes or 0) for each in sizes])
    best_timed = _frontier(timed, [each.milliseconds or 0.0 for each in timed])
    styles = {**styles, "teacher": TEACHER_STYLE}
    heading, notes = f"Validation {found.metric} ×100", []
    pictures = []
    if len({each.milliseconds for each in timed}) > 1:
        dots = [_dot(each, each.milliseconds or 0.0, each in best_timed) for each in timed]
        where = f"milliseconds for one row, {found.device}"
        pictures.append(_picture(found, dots, styles, (heading, where), f"{slug}-latency"))
    else:
        notes.append("Score against latency is left out: no speed of two models was measured.")
    megabytes = [_dot(e, (e.size_bytes or 0) / 1e6, e in best_sized) for e in sizes]
    pictures.append(_picture(found, megabytes, styles, (heading, "megabytes"), f"{slug}-bytes"))
    return Section(
        heading="What to deploy: score against latency and size",
        slug=f"{slug}-trade-off",
        texts=(TEXT,),
        tables=(_table(found, models, best_timed, best_sized),),
        pictures=tuple(pictures),
        notes=tuple(notes),
    )


def candidates(found: TaskFindings) -> list[Candidate]:
    """The teachers of which a score is known, then every group that a picture can hold."""
    models = [
        Candidate(
            label=f"teacher {each.known.name}",
            key="teacher",
            layers=each.layers,
            score=score,
            spread=0.0,
            size_bytes=each.size_bytes,
            milliseconds=each.speed.milliseconds_per_row if each.speed else None,
        )
        for each in found.teachers
        if (score := each.known.scores.get(found.split, {}).get(found.metric)) is not None
    ]
    for group in readable(found.groups):
        speed = found.speed_of(group)
        models.append(
            Candidate(
                label=group.label,
                key=group.strategy,
                layers=group.depth,
                score=group.score.mean,
                spread=group.score.std or 0.0,
                size_bytes=group.runs[0].size_bytes,
                milliseconds=speed.milliseconds_per_row if speed else None,
            )
        )
    return models


def _frontier(models: list[Candidate], costs: list[float]) -> list[Candidate]:
    return [models[index] for index in frontier(costs, [each.score for each in models])]


def _dot(model: Candidate, cost: float, best: bool) -> Dot:
    name = model.label if model.key == "teacher" else f"{model.label} {model.layers}"
    return Dot(
        cost=cost,
        score=100 * model.score,
        spread=100 * model.spread,
        key=model.key,
        name=name,
        best=best,
    )


def _picture(
    found: TaskFindings,
    dots: list[Dot],
    styles: Mapping[str, Style],
    words: tuple[str, str],
    slug: str,
) -> Picture:
    heading, where = words
    svg = draw_trade_off(dots, styles, heading=heading, x_label=where, slug=slug)
    return Picture(slug=slug, label=f"{found.task}: {heading} against {where}", svg=svg)


def _table(
    found: TaskFindings, models: list[Candidate], timed: list[Candidate], sized: list[Candidate]
) -> Table:
    shown = [each for each in models if each in timed or each in sized]
    shown.sort(key=lambda each: (each.size_bytes or 0, -each.score))
    columns = ("on a frontier", "layers", found.metric, "size", "ms, one row", "best for")
    return Table(columns=columns, rows=tuple(_row(each, timed, sized) for each in shown))


def _row(model: Candidate, timed: list[Candidate], sized: list[Candidate]) -> Row:
    size, speed = model.size_bytes, model.milliseconds
    spread = f"{formats.KEEP}±{formats.KEEP}{100 * model.spread:.1f}" if model.spread else ""
    cells = (
        model.label,
        str(model.layers),
        formats.points(model.score) + spread,
        "–" if size is None else formats.size(size),
        "–" if speed is None else f"{speed:.1f}",
        formats.listed([*["latency"] * (model in timed), *["size"] * (model in sized)]),
    )
    return Row(cells=cells, is_teacher=model.key == "teacher")
