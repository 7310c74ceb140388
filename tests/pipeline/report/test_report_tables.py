"""Run with: pytest tests/pipeline/report/test_report_tables.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.load import parse_student
from pipeline.report.records import StudentRun
from pipeline.report.tables import Sample, by_task, compare, group_runs
from tests.pipeline.report.shelf import Shelf


def run(shelf: Shelf, name: str = "run", **changes: Any) -> StudentRun:
    return parse_student(shelf.record(**changes), Path(name))


def test_mean_and_deviation_by_hand() -> None:
    sample = Sample((0.60, 0.63, 0.66))
    assert sample.n == 3
    assert sample.mean == pytest.approx(0.63)
    assert sample.std == pytest.approx(0.03)  # sqrt((0.03^2 + 0 + 0.03^2) / 2)


def test_one_seed_has_no_deviation() -> None:
    assert Sample((0.6,)).std is None


def test_kept_is_the_mean_share_of_the_teacher(prototype: Shelf) -> None:
    (group,) = group_runs([run(prototype, seed=0, score=0.63), run(prototype, seed=1, score=0.665)])
    assert group.score.mean == pytest.approx(0.6475)
    assert group.kept == pytest.approx((0.9 + 0.95) / 2)


@pytest.mark.parametrize("score", [0.0, -0.1, None])
def test_nothing_is_kept_of_a_teacher_without_a_positive_score(
    prototype: Shelf, score: float | None
) -> None:
    record = prototype.record()
    record["teacher"]["scores"] = {"validation": {"accuracy": score}} if score is not None else {}
    (group,) = group_runs([parse_student(record, Path("x"))])
    assert group.kept is None


def test_groups_stand_by_depth_then_in_the_order_of_the_methods(prototype: Shelf) -> None:
    cells = [("skip", 3), ("2,4", 3), ("kd", 6), ("zeta", 3), ("finetune", 3), ("last", 3)]
    groups = group_runs([run(prototype, strategy=s, depth=d) for s, d in cells])
    assert [(g.strategy, g.depth) for g in groups] == [
        ("finetune", 3), ("skip", 3), ("last", 3), ("2,4", 3), ("zeta", 3), ("kd", 6)
    ]  # fmt: skip
    assert [g.label for g in groups][3] == "layers 2,4"
    assert groups[0].key == "finetune-3"


def test_trials_with_other_parameters_are_not_seeds(prototype: Shelf) -> None:
    runs = [
        run(prototype, seed=seed, params={"beta": beta, "seed": seed, "device": device})
        for beta, seed, device in [(10.0, 0, "cpu"), (10.0, 1, "cuda"), (100.0, 0, "cpu")]
    ]
    groups = group_runs(runs)
    assert [(g.variant, g.score.n) for g in groups] == [("beta=10.0", 2), ("beta=100.0", 1)]
    assert groups[0].label == "skip (beta=10.0)"
    assert groups[0].key == "skip-2 beta=10.0"


@pytest.mark.parametrize("strategy", ["auto", "shuffled"])
def test_a_map_that_is_made_sets_no_seeds_apart(prototype: Shelf, strategy: str) -> None:
    maps = ([[1, 2], [2, 1]], [[1, 1], [2, 3]])
    runs = [
        run(prototype, strategy=strategy, seed=seed, layer_map=pairs)
        for seed, pairs in enumerate(maps)
    ]
    (group,) = group_runs(runs)
    assert (group.label, group.score.n) == (strategy, 2)
    assert {each.layer_map for each in group.runs} == {((1, 2), (2, 1)), ((1, 1), (2, 3))}


def test_auto_is_shown_with_its_layers(prototype: Shelf) -> None:
    pairs = [[1, 3], [2, 4]]
    runs = [run(prototype, strategy="auto", seed=seed, layer_map=pairs) for seed in (0, 1)]
    (group,) = group_runs(runs)
    assert group.label == "auto 3,4"
    assert group.key == "auto-2"
    (alone,) = group_runs([run(prototype, strategy="auto", layer_map=[])])
    assert alone.label == "auto"
    groups = group_runs([*runs, run(prototype, strategy="skip"), run(prototype, strategy="emd")])
    assert [each.strategy for each in groups] == ["skip", "auto", "emd"]


def test_maps_that_set_rows_apart_are_short(prototype: Shelf) -> None:
    runs = [run(prototype, layer_map=[[1, 2], [2, last]]) for last in (4, 5)]
    assert [each.variant for each in group_runs(runs)] == [
        "layer_map=1:2 2:4", "layer_map=1:2 2:5"
    ]  # fmt: skip


def test_students_of_other_labels_are_no_seeds(prototype: Shelf) -> None:
    runs = [run(prototype, labelled_rows=rows) for rows in (100, 37)]
    assert [g.variant for g in group_runs(runs)] == ["labelled_rows=100", "labelled_rows=37"]


def test_students_of_two_teachers_are_two_rows(prototype: Shelf) -> None:
    other = prototype.record(seed=1)
    other["teacher"] = {**other["teacher"], "digest": "f" * 64}
    groups = group_runs([run(prototype), parse_student(other, Path("y"))])
    assert [g.variant for g in groups][1] == "teacher=ffffffff"


@pytest.mark.parametrize(
    ("changes", "variants"),
    [
        (
            {"other_teachers": [{"name": "large", "digest": "a" * 64}]},
            ["other_teachers=large aaaaaaaa", "other_teachers=null"],
        ),
        ({"max_length": 64}, ["max_length=128", "max_length=64"]),
    ],
)
def test_students_of_more_teachers_or_of_other_lengths_are_no_seeds(
    prototype: Shelf, changes: dict[str, Any], variants: list[str]
) -> None:
    alike: dict[str, Any] = {"max_length": 128, "other_teachers": []}
    runs = [run(prototype, seed=0, **alike), run(prototype, seed=1, **alike | changes)]
    groups = group_runs(runs)
    assert [(g.variant, g.score.n) for g in groups] == [(each, 1) for each in variants]
    assert groups[0].label == f"skip ({variants[0]})"
    (one,) = group_runs([run(prototype, seed=seed, **alike | changes) for seed in (0, 1)])
    assert (one.variant, one.score.n) == ("", 2)


def test_further_teachers_of_one_name_are_told_apart(prototype: Shelf) -> None:
    runs = [
        run(prototype, other_teachers=[{"name": "large", "digest": each * 64}]) for each in "ab"
    ]
    assert [g.variant for g in group_runs(runs)] == [
        "other_teachers=large aaaaaaaa", "other_teachers=large bbbbbbbb",
    ]  # fmt: skip


def test_students_of_caches_of_two_types_are_no_seeds_but_those_of_more_layers_are(
    prototype: Shelf,
) -> None:
    cache = prototype.record()["cache"] | {"dtype": "float16"}
    runs = [
        run(prototype, seed=0, cache=cache),
        run(prototype, seed=1, cache=cache | {"cache_id": "d" * 64}),
        run(prototype, seed=2, cache=cache | {"dtype": "float32"}),
    ]
    groups = group_runs(runs)
    assert [(g.variant, g.score.n) for g in groups] == [
        ("cache_dtype=float16", 2), ("cache_dtype=float32", 1)
    ]  # fmt: skip


def test_runs_are_sorted_by_task_and_seed(prototype: Shelf) -> None:
    runs = [run(prototype, task="sst2"), run(prototype, seed=1), run(prototype, seed=0)]
    found = by_task(runs)
    assert list(found) == ["rte", "sst2"]
    (group,) = group_runs(found["rte"])
    assert [each.seed for each in group.runs] == [0, 1]


def test_a_gap_is_measured_in_pooled_deviations() -> None:
    found = compare(Sample((0.70, 0.74)), Sample((0.69, 0.71)))
    assert found.gap == pytest.approx(0.02)
    # deviations 0.0283 and 0.0141: sqrt((0.0008 + 0.0002) / 2)
    assert found.noise == pytest.approx(math.sqrt(0.0005))
    assert found.within_noise
    assert not found.significant


def test_the_test_agrees_with_scipy() -> None:
    from scipy.stats import ttest_ind

    better, worse = (0.66, 0.67, 0.69, 0.68), (0.64, 0.655, 0.65)
    found = compare(Sample(better), Sample(worse))
    assert found.significant == (ttest_ind(better, worse, equal_var=False).pvalue < 0.05)
    close = compare(Sample(better), Sample((0.65, 0.66, 0.67)))
    assert close.significant == (
        ttest_ind(better, (0.65, 0.66, 0.67), equal_var=False).pvalue < 0.05
    )
    assert (found.significant, close.significant) == (True, False)


def test_one_seed_gives_no_verdict() -> None:
    found = compare(Sample((0.7,)), Sample((0.5, 0.6)))
    assert found.noise is None
    assert not found.within_noise
    assert not found.significant


def test_equal_seeds_have_no_noise() -> None:
    assert compare(Sample((0.7, 0.7)), Sample((0.6, 0.6))).significant
    assert not compare(Sample((0.7, 0.7)), Sample((0.7, 0.7))).significant
