"""Run with: pytest tests/pipeline/report/test_report_cost.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report.cost import cost_of
from pipeline.report.load import parse_student
from pipeline.report.records import CacheBuild
from tests.pipeline.report.shelf import Shelf


def build(seconds: float, train_pass: float, device: str = "cpu") -> CacheBuild:
    return CacheBuild(
        seconds=seconds,
        train_pass_seconds=train_pass,
        rows_per_second=None,
        size_bytes=None,
        device=device,
    )


def test_break_even_by_hand(prototype: Shelf) -> None:
    strategies = ("finetune", "kd", "skip", "last")
    runs = [parse_student(prototype.record(strategy=s), Path(s)) for s in strategies]
    # three epochs, 20 s a pass: 60 s saved by each of three distilled students
    cost = cost_of(build(150.0, 20.0), runs)
    assert cost is not None
    assert cost.students == 3  # fine-tuning never asks a teacher
    assert cost.saved_seconds == (60.0, 60.0, 60.0)
    assert cost.live_seconds == 180.0
    assert cost.exact_break_even == 2.5
    assert cost.break_even == 3
    assert cost.training_seconds == 18.0
    assert cost.comparable


def test_pretraining_is_part_of_what_a_student_costs(prototype: Shelf) -> None:
    records = [prototype.record(seed=seed) for seed in (0, 1)]
    records[1]["pretrain"] = {"kind": "ptp", "seconds": 4.0}
    cost = cost_of(build(30.0, 20.0), [parse_student(each, Path("x")) for each in records])
    assert cost is not None
    assert cost.training_seconds == 6.0 + 10.0


def test_a_cheap_build_is_paid_by_the_first_student(prototype: Shelf) -> None:
    cost = cost_of(build(30.0, 20.0), [parse_student(prototype.record(), Path("x"))])
    assert cost is not None
    assert cost.exact_break_even == 0.5
    assert cost.break_even == 1


def test_time_of_different_devices_is_not_added(prototype: Shelf) -> None:
    cost = cost_of(build(30.0, 20.0, "cuda"), [parse_student(prototype.record(), Path("x"))])
    assert cost is not None
    assert not cost.comparable


def test_nothing_saved_is_never_paid(prototype: Shelf) -> None:
    cost = cost_of(build(30.0, 0.0), [parse_student(prototype.record(), Path("x"))])
    assert cost is not None
    assert cost.break_even is None


@pytest.mark.parametrize("changes", [{"strategy": "finetune"}, {"history": []}])
def test_runs_that_ask_nothing_have_no_cost(prototype: Shelf, changes: dict[str, object]) -> None:
    run = parse_student(prototype.record(**changes), Path("x"))
    assert cost_of(build(30.0, 20.0), [run]) is None
