"""What other commands kept beside the metrics of a cache: sweeps and probes, or a note."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.report.probes import ProbeCurve, load_probes
from pipeline.report.records import StudentRun
from pipeline.report.sources import Notes
from pipeline.report.sweeps import Sweep, load_sweeps


def noted_sweeps(metrics: Path, task: str, notes: Notes) -> tuple[Sweep, ...]:
    """The sweeps of a task."""
    found, skipped = load_sweeps(metrics, task)
    for each in skipped:
        notes.add("sweeps", f"Left out: {each.name}: {each.reason}.")
    if not found and not skipped:
        told = "Left out: no sweep of this task is there; `pkd-student sweep` makes one."
        notes.add("sweeps", told)
    return tuple(found)


def noted_probes(
    metrics: Path, task: str, runs: Sequence[StudentRun], notes: Notes
) -> ProbeCurve | None:
    """The probe curve of a task."""
    try:
        found = load_probes(metrics, task, runs)
    except DataError as error:
        notes.add("similarity", f"The probe curve is left out: probe-{task}.json: {error}.")
        return None
    if found is None:
        told = (
            "The probe curve is left out: nobody kept one; "
            f"`pkd-cache probe CACHE --out data/metrics/probe-{task}.json` does."
        )
        notes.add("similarity", told)
    return found
