"""What the records of an experiment hold: the rows of its table with their runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.results.choices import Choices, Decision, Settings, replay
from benchmarks.results.plan import Experiment, Method, Plan
from benchmarks.results.records import Record, Records
from pipeline.report.tables import Sample
from pipeline.tasks import BUILT_IN


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method, or the teacher, and its finished runs."""

    name: str
    method: Method | None
    """None for the teacher."""
    runs: tuple[Record, ...]
    """By seed; one for each."""

    @property
    def main(self) -> Sample:
        """The first metric over seeds; may be empty."""
        return Sample(tuple(run.main for run in self.runs))

    def score(self, metric: str) -> Sample:
        """A metric over seeds."""
        return Sample(tuple(run.scores[metric] for run in self.runs))

    def facts(self, name: str) -> list[Any]:
        """The distinct values of a fact, in the order of the runs."""
        found = [run.facts[name] for run in self.runs if run.facts.get(name) is not None]
        return [value for place, value in enumerate(found) if value not in found[:place]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """An experiment as far as it is run."""

    experiment: Experiment
    choices: Choices
    teacher: Row
    rows: tuple[Row, ...]
    """The methods, in the order of the plan."""
    left_out: int
    """Final runs on record that belong to no row, such as those of settings chosen earlier."""

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The teacher first."""
        return (self.teacher, *self.rows)

    @property
    def metrics(self) -> list[str]:
        """Names of the scores, the main one first; without runs, those that the task will have."""
        candidates = [c for d in self.decisions for c in d.candidates]
        runs = [run for row in self.all_rows for run in row.runs]
        runs += [each.record for each in candidates if each.record]
        return list(runs[0].scores if runs else BUILT_IN[self.experiment.task].metrics)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, the teacher's first."""
        return (self.choices.teacher, *self.choices.students)

    @property
    def held_out_rows(self) -> int | None:
        """Rows that settings were chosen on: what the final teacher has more than a candidate."""
        tried = [c.record for c in self.choices.teacher.candidates if c.record]
        final = self.teacher.facts("labelled_rows")
        fewer = tried[0].facts.get("labelled_rows") if tried else None
        return final[0] - fewer if len(final) == 1 and fewer is not None else None


def gather(plan: Plan, experiment: Experiment, records: Records) -> Findings:
    """Read an experiment's records."""
    choices = replay(plan, experiment, records)
    final = [record for record in records if record.phase == "final"]
    teacher = _row("teacher", None, final, choices.final_teacher(plan))
    rows = tuple(
        _row(each.name, each, final, choices.final_student(plan, each.strategy, each.settings))
        for each in experiment.methods
    )
    used = sum(len(row.runs) for row in (teacher, *rows))
    return Findings(
        experiment=experiment,
        choices=choices,
        teacher=teacher,
        rows=rows,
        left_out=len(final) - used,
    )


def _row(
    name: str, method: Method | None, final: Iterable[Record], settings: Settings | None
) -> Row:
    """Runs of these settings; runs of settings that were chosen earlier are no seeds of them."""
    runs: dict[int, Record] = {}
    for record in final:
        if record.method == name and record.settings == settings:
            runs.setdefault(record.seed, record)
    return Row(name=name, method=method, runs=tuple(runs[seed] for seed in sorted(runs)))
