"""Linear probes on the layers of a cache, where someone has kept their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.report.fields import count, mapping, number, optional_number, text
from pipeline.report.load import read_record
from pipeline.report.paths import plain_name
from pipeline.report.records import StudentRun


@dataclass(frozen=True, kw_only=True)
class ProbeCurve:
    """Scores by teacher layer."""

    metric: str
    layers: tuple[int, ...]
    held_out: tuple[float, ...]
    """On training rows that the probes were not fitted on."""
    validation: tuple[float | None, ...]


def load_probes(metrics: Path, task: str, runs: Sequence[StudentRun]) -> ProbeCurve | None:
    """The record of `pkd-cache probe --out`, else what a student of strategy auto recorded.

    Raises:
        DataError: a record that says something else.
    """
    path = metrics / f"probe-{task}.json"
    if plain_name(task) and path.is_file():
        return parse_probes(read_record(path), task)
    for run in runs:
        if isinstance(probes := run.record.get("probes"), Mapping) and probes.get("held_out"):
            return _of_auto(probes)
    return None


def parse_probes(record: Mapping[str, Any], task: str) -> ProbeCurve:
    """Check a record; raises DataError naming the field."""
    if text(record, "task") != task:
        raise DataError(f"it is of task {text(record, 'task')}")
    layers = record.get("layers")
    if not isinstance(layers, list) or not all(isinstance(each, Mapping) for each in layers):
        raise DataError("`layers` is no list of scores")
    return ProbeCurve(
        metric=text(record, "metric"),
        layers=tuple(count(each, "layer") for each in layers),
        held_out=tuple(number(each, "held_out") for each in layers),
        validation=tuple(optional_number(each, "validation") for each in layers),
    )


def _of_auto(probes: Mapping[str, Any]) -> ProbeCurve:
    held_out = mapping(probes, "held_out")
    try:
        layers = sorted(held_out, key=int)
    except ValueError:
        raise DataError("`probes.held_out` is not of layers") from None
    return ProbeCurve(
        metric=text(probes, "metric"),
        layers=tuple(int(layer) for layer in layers),
        held_out=tuple(number(held_out, layer) for layer in layers),
        validation=(None,) * len(layers),
    )
