"""Which settings were chosen, by the records: the choosing of `run.py` without its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.results.plan import Choice, Experiment, Plan
from benchmarks.results.records import Record, Records

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings that could be chosen."""

    values: Settings
    record: Record | None
    """Of the run on held-out rows; None until it is made."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Candidates, and what took the best of them over."""

    method: str
    """That was trained with each of them; `teacher`."""
    taken_by: frozenset[str]
    """Strategies; empty for the teacher."""
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The first of the best; None until all are recorded."""
        if any(each.record is None for each in self.candidates):
            return None
        # max keeps the first of equals
        return max(self.candidates, key=lambda each: each.record.main if each.record else 0.0)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """All decisions of an experiment and the settings that follow."""

    teacher: Decision
    students: tuple[Decision, ...]
    by_strategy: dict[str, Settings | None]
    """None while a decision is open."""

    def final_teacher(self, plan: Plan) -> Settings | None:
        """Settings of the teacher in the table."""
        return plan.teacher | self.teacher.best.values if self.teacher.best else None

    def final_student(self, plan: Plan, strategy: str, settings: Settings) -> Settings | None:
        """Settings of a method in the table."""
        chosen = self.by_strategy.get(strategy, {})
        return None if chosen is None else {**plan.student, **chosen, **settings}


def replay(plan: Plan, experiment: Experiment, records: Records) -> Choices:
    """Decide as `run.py` does, as far as the records go."""

    def find(method: str, settings: Settings) -> Record | None:
        return records.find("choice", method, 0, settings)

    teacher = Decision(
        method="teacher",
        taken_by=frozenset(),
        candidates=_candidates(
            plan.teacher_values, lambda values: find("teacher", plan.teacher | values)
        ),
    )
    used = {method.strategy for method in experiment.methods}
    wanted = [choice for choice in plan.choices if choice.method["strategy"] in used]
    students, by_strategy = _decide(plan.student, wanted, find)
    return Choices(teacher=teacher, students=students, by_strategy=by_strategy)


def _decide(
    student: Settings,
    choices: Iterable[Choice],
    find: Callable[[str, Settings], Record | None],
) -> tuple[tuple[Decision, ...], dict[str, Settings | None]]:
    """One after another: a choice starts from what its strategy has taken over so far."""
    decisions = []
    so_far: dict[str, Settings | None] = {}
    for choice in choices:
        decision = _decision(student, choice, so_far.get(choice.method["strategy"], {}), find)
        decisions.append(decision)
        for strategy in choice.strategies:
            so_far[strategy] = _joined(so_far.get(strategy, {}), decision.best)
    return tuple(decisions), so_far


def _decision(
    student: Settings,
    choice: Choice,
    start: Settings | None,
    find: Callable[[str, Settings], Record | None],
) -> Decision:
    strategy = choice.method["strategy"]

    def run_of(values: Settings) -> Record | None:
        return None if start is None else find(strategy, student | start | choice.method | values)

    return Decision(
        method=strategy,
        taken_by=choice.strategies,
        candidates=_candidates(choice.values, run_of),
    )


def _candidates(
    values: Iterable[Settings], run_of: Callable[[Settings], Record | None]
) -> tuple[Candidate, ...]:
    return tuple(Candidate(values=each, record=run_of(each)) for each in values)


def _joined(settings: Settings | None, best: Candidate | None) -> Settings | None:
    return None if settings is None or best is None else settings | best.values
