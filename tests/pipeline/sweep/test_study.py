"""pytest tests/pipeline/sweep/test_study.py - what workers and machines take from one study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from pipeline.sweep.space import Range, Values
from pipeline.sweep.states import result_of, trial_states
from pipeline.sweep.study import (
    QUEUED,
    StudyPlan,
    enqueue_missing,
    has_more,
    is_surplus,
    opened_study,
    suggest,
)
from pipeline.tasks import BUILT_IN
from stages.student.sweep import _sweep_summary

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")
POINTS = [{"seed": 0}, {"seed": 1}]


def grid(folder: Path) -> StudyPlan:
    return StudyPlan(
        name="s", storage=f"sqlite:///{folder / 's.db'}", sampler="grid", trials=None,
        space={"seed": Values((0, 1))}, seed=0, identity={},
    )  # fmt: skip


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_workers_and_later_commands_draw_other_points(tmp_path: Path, sampler: str) -> None:
    plan = StudyPlan(
        name="s", storage=f"sqlite:///{tmp_path / 's.db'}", sampler=sampler, trials=9,
        space={"learning_rate": Range(1e-5, 1e-3, log=True)}, seed=0, identity={},
    )  # fmt: skip

    def drawn(study: Any) -> float:
        trial = study.ask()
        point = suggest(trial, plan.space)
        study.tell(trial, 0.5)
        return float(point["learning_rate"])

    with opened_study(plan) as one, opened_study(plan) as other:
        found = [drawn(study) for study in (one, other, one, other)]
    with opened_study(plan) as later:
        found += [drawn(later), drawn(later)]
    assert len(set(found)) == 6
    again = replace(plan, storage=f"sqlite:///{tmp_path / 'again.db'}")
    with opened_study(again) as study:
        assert [drawn(study) for _ in range(6)] == found  # by seed and number alone


def test_a_point_that_two_machines_queued_at_once_is_made_once(tmp_path: Path) -> None:
    plan = grid(tmp_path)
    with opened_study(plan) as study:
        for point in (*POINTS, *POINTS):
            study.enqueue_trial(point, user_attrs={QUEUED: True})
        trials = [study.ask() for _ in range(4)]
        assert [is_surplus(study, plan, each) for each in trials] == [False, False, True, True]
        for each in trials[:2]:
            each.suggest_categorical("seed", [0, 1])
            study.tell(each, 0.5)
        for each in trials[2:]:
            study.tell(each, state=TrialState.PRUNED)
        assert enqueue_missing(study, POINTS, alone=True) == 2
        assert not has_more(study, plan)


def test_what_other_machines_are_at_is_said(tmp_path: Path) -> None:
    with opened_study(grid(tmp_path)) as study:
        enqueue_missing(study, POINTS, alone=False)
        mine, theirs = study.ask(), study.ask()
        for trial in (mine, theirs):
            trial.suggest_categorical("seed", [0, 1])
        mine.set_user_attr("folder", "rte-skip-2-s0")
        study.tell(mine, 0.5)
        found = result_of(study, grid(tmp_path), BUILT_IN["rte"], 1.0)
        assert found["unfinished"] == [{"seed": 1}]
        assert "  1 more are under way on other machines" in _sweep_summary(found)
        study.tell(theirs, state=TrialState.FAIL)  # killed: it is queued again
        assert [each.state for each in trial_states(study)] == ["complete"]
