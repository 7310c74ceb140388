"""The trials of a sweep, as people and records are told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.sweep.space import describe_space
from pipeline.sweep.study import StudyPlan, point_of
from pipeline.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """A trial as people follow it."""

    number: int
    point: dict[str, Any]
    state: str
    """waiting, running, complete or fail."""
    score: float | None
    """The task's first metric."""
    folder: str | None
    error: str | None
    seconds: float | None


def trial_states(study: Any) -> list[TrialState]:
    """All trials, by number; one that failed, and of whose point there is another, is left out."""
    found = _told(study)
    return [each for each in found if not any(_replaces(other, each) for other in found)]


def _replaces(other: TrialState, trial: TrialState) -> bool:
    if trial.state != "fail" or other.point != trial.point:
        return False
    return other.state != "fail" or other.number > trial.number


def _told(study: Any) -> list[TrialState]:
    """All but those that were given up, and those of a worker that was killed."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name.lower()
        if state == "pruned" or (state == "fail" and "error" not in trial.user_attrs):
            continue
        found.append(
            TrialState(
                number=trial.number,
                point=point_of(trial),
                state=state,
                score=trial.value,
                folder=trial.user_attrs.get("folder"),
                error=trial.user_attrs.get("error"),
                seconds=trial.user_attrs.get("seconds"),
            )
        )
    return found


def result_of(study: Any, plan: StudyPlan, task: Task, seconds: float) -> dict[str, Any]:
    """What a sweep found, as `pipeline.sweep.run.run_sweep` returns and records it."""
    states = trial_states(study)
    done = sorted(
        (each for each in states if each.score is not None),
        key=lambda each: (-(each.score or 0.0), each.number),
    )
    best = done[0] if done else None
    return {
        "name": plan.name,
        "task": task.name,
        "metric": task.metrics[0],
        "space": describe_space(plan.space),
        "best": best and {"student": best.folder, "score": best.score, "params": best.point},
        "scores": {str(each.folder): each.score for each in done},
        "points": {str(each.folder): each.point for each in done},
        "failed": {str(each.folder): each.error for each in states if each.state == "fail"},
        "unfinished": [each.point for each in states if each.state in ("running", "waiting")],
        "seconds": seconds,
    }
