"""Everything that the report has to say of one task: what is drawn and written comes from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.answers.disagreements import Disagreement
from pipeline.report.answers.types import Answers
from pipeline.report.benches import Bench
from pipeline.report.cost import Cost
from pipeline.report.probes import ProbeCurve
from pipeline.report.records import StudentRun, TeacherOf
from pipeline.report.similarity import LayerSimilarity
from pipeline.report.speed import Speed
from pipeline.report.sweeps import Sweep
from pipeline.report.tables import Group

SizeKey = tuple[int, int, int]
"""Student layers, block passes and parameters: such students share one measured speed."""


@dataclass(frozen=True, kw_only=True)
class TeacherRow:
    """A teacher as far as it is known: from the students' records, and from its folder if there."""

    known: TeacherOf
    layers: int
    parameters: int | None
    size_bytes: int | None
    speed: Speed | None


@dataclass(frozen=True, kw_only=True)
class TaskFindings:
    """One task."""

    task: str
    metric: str
    split: str
    groups: tuple[Group, ...]
    teachers: tuple[TeacherRow, ...]
    """One, unless students of several teachers are mixed."""
    speeds: Mapping[SizeKey, Speed]
    device: str | None
    """Where speeds were measured; None when they were not."""
    cost: Cost | None
    similarities: tuple[LayerSimilarity, ...]
    answers: Answers | None
    """What each model says of every labelled validation row; None when no student has kept it."""
    disagreements: tuple[tuple[Group, tuple[Disagreement, ...]], ...]
    texts: Mapping[int, tuple[str, ...]]
    """Of the rows in `disagreements`, by their place in the split."""
    probes: ProbeCurve | None
    benches: tuple[Bench, ...]
    sweeps: tuple[Sweep, ...]
    notes: Mapping[str, Sequence[str]]
    """What is left out and why, by place: table, similarity, cost, answers, disagreements,
    benches, sweeps."""

    @property
    def runs(self) -> list[StudentRun]:
        """All runs, in the order of the tables."""
        return [run for group in self.groups for run in group.runs]

    @property
    def teacher_score(self) -> float | None:
        """The main score of the one teacher; None when there are several, or it is not recorded."""
        if len(self.teachers) != 1:
            return None
        return self.teachers[0].known.scores.get(self.split, {}).get(self.metric)

    def speed_of(self, group: Group) -> Speed | None:
        """Measured speed of a group's students."""
        return self.speeds.get(size_key(group.runs[0]))


def size_key(run: StudentRun) -> SizeKey:
    """What decides a student's speed."""
    return run.depth, run.block_passes, run.parameters
