"""What other commands kept beside the metrics of a cache: sweeps, probes, benches, or a note."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pipeline.errors import DataError
from pipeline.report.benches import Bench, load_benches
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


def noted_benches(metrics: Path, runs: Sequence[StudentRun], notes: Notes) -> tuple[Bench, ...]:
    """The benches of a task's students."""
    from pipeline.models.identity import identify_model
    from pipeline.models.load import load_classifier

    @cache
    def digest_in(folder: Path) -> str:
        return identify_model(load_classifier(str(folder)))

    found, skipped = load_benches(metrics, runs, lambda run: digest_in(run.folder))
    for each in skipped:
        notes.add("benches", f"Left out: {each.name}: {each.reason}.")
    if not found and not skipped:
        told = (
            "Left out: no bench of these students is there; `pkd-student bench STUDENT` makes one."
        )
        notes.add("benches", told)
    return tuple(found)
