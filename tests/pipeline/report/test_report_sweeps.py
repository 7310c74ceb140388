"""Run with: pytest tests/pipeline/report/test_report_sweeps.py."""

from __future__ import annotations

import itertools
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.files import write_json
from pipeline.report.figures.sweep import draw_sweep
from pipeline.report.probes import load_probes, parse_probes
from pipeline.report.sweeps import load_sweeps, parse_sweep

SPACE: dict[str, list[Any]] = {"temperature": [1, 5, 20], "alpha": [0.2, 0.8], "strategy": ["kd"]}


def record(**changes: Any) -> dict[str, Any]:
    """A full grid whose score is a sum: temperature adds up to 0.2, alpha up to 0.05."""
    points = [dict(zip(SPACE, p, strict=True)) for p in itertools.product(*SPACE.values())]
    scores = {
        f"s{i}": 0.5 + {1: 0.0, 5: 0.05, 20: 0.2}[p["temperature"]] + 0.05 * (p["alpha"] > 0.5)
        for i, p in enumerate(points)
    }
    content: dict[str, Any] = {
        "name": "grid",
        "task": "rte",
        "metric": "accuracy",
        "space": {name: {"values": values} for name, values in SPACE.items()},
        "scores": scores,
        "points": {f"s{i}": point for i, point in enumerate(points)},
        "failed": {"s9": "why"},
        "seconds": 1.0,
        "best": None,
    }
    return content | changes


def shares_of_variance(content: dict[str, Any]) -> dict[str, float]:
    """Main effects of a full grid, exactly: the variance of the means by value."""
    found = {}
    for name, values in SPACE.items():
        means = [
            fmean(s for key, s in content["scores"].items() if content["points"][key][name] == v)
            for v in values
        ]
        found[name] = pvariance(means)
    return {name: value / sum(found.values()) for name, value in found.items()}


def test_importance_is_the_share_of_variance_of_a_full_grid() -> None:
    content = record()
    exact = shares_of_variance(content)
    found = parse_sweep(content)
    assert list(found.importance) == ["temperature", "alpha", "strategy"]
    for name, share in found.importance.items():
        assert share == pytest.approx(exact[name], abs=0.1)  # a forest of drawn trees
    assert sum(found.importance.values()) == pytest.approx(1.0)
    assert exact["strategy"] == found.importance["strategy"] == 0.0


def test_importance_is_what_a_study_of_the_same_trials_says() -> None:
    import optuna

    content = record()
    study = optuna.create_study(direction="maximize")
    for name, point in content["points"].items():
        study.enqueue_trial(point)
        trial = study.ask()
        for parameter, values in SPACE.items():
            trial.suggest_categorical(parameter, values)
        study.tell(trial, content["scores"][name])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    found = parse_sweep(content).importance
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, abs=0.06)


def test_trials_and_means_by_hand() -> None:
    found = parse_sweep(record())
    assert [trial.score for trial in found.trials] == pytest.approx(
        [0.75, 0.7, 0.6, 0.55, 0.55, 0.5]
    )
    assert found.trials[0].point == {"temperature": 20, "alpha": 0.8, "strategy": "kd"}
    assert [v for v, _ in found.means("temperature")] == [20, 5, 1]
    assert [m for _, m in found.means("temperature")] == pytest.approx([0.725, 0.575, 0.525])
    assert found.failed == 1


def test_a_range_is_drawn_and_weighed() -> None:
    rates = [1e-5, 2e-5, 5e-5, 8e-5, 1e-4]
    content = record(
        space={"learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}},
        scores={f"s{i}": 0.5 + rate * 1000 for i, rate in enumerate(rates)},
        points={f"s{i}": {"learning_rate": rate} for i, rate in enumerate(rates)},
    )
    found = parse_sweep(content)
    assert found.importance == {"learning_rate": pytest.approx(1.0)}
    assert "learning_rate" in draw_sweep(found, slug="a")


def test_few_or_equal_students_tell_nothing() -> None:
    content = record()
    few = {name: content["scores"][name] for name in ("s0", "s1", "s2")}
    assert "3 students are too few" in parse_sweep(record(scores=few)).doubt
    equal = parse_sweep(record(scores=dict.fromkeys(content["scores"], 0.5)))
    assert equal.importance == {}
    assert "same score" in equal.doubt
    assert "temperature" in draw_sweep(equal, slug="a")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": {}}, "`s0` is None"),
        ({"points": {f"s{i}": {"alpha": 1} for i in range(6)}}, "`points` of s0 are not of"),
        ({"space": {n: {"values": [99]} for n in SPACE}}, "`points` of s0 are not of `space`"),
        ({"space": {n: {"values": 3} for n in SPACE}}, "`low` is None"),
        ({"scores": {"s0": "high"}}, "`s0` is 'high', not a finite number"),
        ({"failed": None}, "`failed` is None"),
    ],
)
def test_a_record_that_is_none_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_sweep(record(**change))
    assert reason in str(caught.value)


def test_sweeps_of_a_task_are_read_by_name(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep-b.json", record(name="b"))
    write_json(tmp_path / "sweep-a.json", record(name="a"))
    write_json(tmp_path / "sweep-c.json", record(name="c", task="sst2"))
    old = record(name="old")
    del old["points"]
    write_json(tmp_path / "sweep-old.json", old)
    (tmp_path / "sweep-x.json").write_text("{")
    found, skipped = load_sweeps(tmp_path, "rte")
    assert [each.name for each in found] == ["a", "b"]
    assert [each.name for each in skipped] == ["sweep-old.json", "sweep-x.json"]
    assert "trains nothing" in skipped[0].reason
    assert str(tmp_path) not in skipped[1].reason


LAYERS = [
    {"layer": 1, "held_out": 0.5, "validation": 0.4},
    {"layer": 2, "held_out": 0.9, "validation": None},
]


def test_a_probe_record_is_read(tmp_path: Path) -> None:
    assert load_probes(tmp_path, "rte", []) is None
    write_json(tmp_path / "probe-rte.json", {"task": "rte", "metric": "accuracy", "layers": LAYERS})
    found = load_probes(tmp_path, "rte", [])
    assert found is not None
    assert (found.layers, found.held_out, found.validation) == ((1, 2), (0.5, 0.9), (0.4, None))
    assert load_probes(tmp_path, "../x", []) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "sst2"}, "of task sst2"),
        ({"layers": 3}, "`layers` is no list"),
        ({"layers": [{"layer": 1, "held_out": "x"}]}, "`held_out` is 'x'"),
    ],
)
def test_another_probe_record_is_refused(change: dict[str, Any], reason: str) -> None:
    content = {"task": "rte", "metric": "accuracy", "layers": LAYERS} | change
    with pytest.raises(DataError) as caught:
        parse_probes(content, "rte")
    assert reason in str(caught.value)
