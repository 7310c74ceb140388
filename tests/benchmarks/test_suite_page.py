"""pytest tests/benchmarks/test_suite_page.py - targets by hand, and the page of benchmarks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.page import FOLDER, PAGE, SECTIONS, page_text
from benchmarks.parts import PARTS as SUITE
from benchmarks.summary import paired, ratio, summary
from benchmarks.targets import TARGETS, Parts, step_ratio
from pipeline.files import read_json


def case(task: str, teacher: int, student: int, **medians: float) -> dict[str, Any]:
    """Made-up steps; all of a contender's steps take as long."""
    return {
        "task": task, "teacher": "bert-base", "teacher_layers": teacher, "student_layers": student,
        "batch_size": 16, "precision": "float32", "tokens_a_step": 1000.0, "load": 1.0,
        "clock": "perf_counter",
        "contenders": {n.replace("_", "-"): summary([s] * 3) for n, s in medians.items()},
    }  # fmt: skip


PARTS: Parts = {
    "steps": [
        case("rte", 12, 3, finetune=1.0, finetune_cls=0.85, cache_skip=1.02, live_skip=2.55,
             live_skip_cls=2.04, textbrewer=2.04),
        case("rte", 24, 6, finetune=1.0, cache_kd=1.0, cache_skip=1.25, live_kd=3.0, live_skip=5.0),
        case("sst2", 12, 3, finetune=1.0, cache_skip=0.5, textbrewer_random=2.0)
        | {"contenders": {"finetune": summary([1.0]), "cache-skip": summary([0.5]),
                          "textbrewer-random": summary([2.0]), "2019": summary([3.5])}},
    ],
    "build": {"contenders": {"bare": summary([10.0]), "build": summary([10.4])}},
    "floor": {"sittings": [{"cache-skip": [1.0, 2.0], "finetune-cls": [1.0, 1.5]},
                           {"cache-skip": [3.0, 3.0], "finetune-cls": [3.0, 2.0]}]},
    "build-pieces": {"total": 10.4, "pieces": {"pass": 8.0}},
    "memory": {"contenders": {
        "finetune": {"peak": 1000, "cached": 0}, "finetune-cls": {"peak": 800, "cached": 0},
        "cache-skip": {"peak": 1100, "cached": 90}}},
    "arithmetic": {
        "task": "rte", "teacher": "bert-base", "precision": "bfloat16", "load": 1.0, "peak": 8e14,
        "stage_one": {"layers": 12, "tokens": 8000.0, "rate": 4e14},
        "stage_two": [{"layers": 3, "batch_size": 32, "tokens": 2000.0, "rate": 1e14},
                      {"layers": 3, "batch_size": 256, "tokens": 17000.0, "rate": 2.8e14},
                      {"layers": 6, "batch_size": 256, "tokens": 17000.0, "rate": 3.6e14}]},
    "padding": [{"task": "rte", "stage_one": 0.01, "stage_two": 0.05},
                {"task": "sst2", "stage_one": 0.03, "stage_two": 0.02}],
    "sweep": {"sweep": 45.0, "fits": 60.0, "device": "cpu"},
    "startup": {"contenders": {
        "pkd-cache info CACHE": summary([0.25]), "pkd-data --help": summary([0.1]),
        "pkd-cache --help": summary([0.21])}},
}  # fmt: skip


def test_a_summary_by_hand() -> None:
    found = summary([4.0, 1.0, 2.0, 3.0, 10.0])
    assert found == {"median": 3.0, "q1": 2.0, "q3": 4.0, "sum": 20.0, "count": 5}
    assert ratio(summary([6.0, 6.0]), found) == 2.0
    assert ratio(summary([6.0, 6.0]), found, "sum") == pytest.approx(0.6)
    assert ratio({"missing": "not installed"}, found) is None
    assert ratio(found, None) is None


def test_steps_are_compared_in_pairs() -> None:
    """A slow moment hits both; an odd step of one is no more than one of the pairs."""
    one = summary([2.0, 20.0, 9.0]) | {"steps": [2.0, 20.0, 9.0]}
    other = summary([1.0, 10.0, 1.0]) | {"steps": [1.0, 10.0, 1.0]}
    assert ratio(one, other) == 9.0
    assert paired(one, other) == 2.0
    assert paired(summary([2.0, 20.0, 9.0]), other) == 9.0  # of medians
    assert paired(one, summary([1.0]) | {"steps": [1.0]}) == 9.0
    assert paired(one, {"missing": "not installed"}) is None
    found = {"2019": one, "cache-skip": other, "finetune": other}
    assert step_ratio(found, "2019", "cache-skip") == 9.0  # other batches
    assert step_ratio(found, "finetune", "cache-skip") == 1.0
    assert step_ratio(found, "live-skip", "cache-skip") is None


def test_targets_are_ratios_of_medians() -> None:
    values = [target.of(PARTS) for target in TARGETS]
    expected = [1.02, 1.2, 2.5, 2.0, 3.0, 4.0, 2.0, 4.0, 7.0, None, 1.04, 1.3, 1.01, 1.2625, 0.03,
                0.05, 0.5, 0.35, 0.75, None, 0.25, 0.21]  # fmt: skip
    assert values == [None if each is None else pytest.approx(each) for each in expected]
    reached = [t.reached(v) for t, v in zip(TARGETS, values, strict=True) if v is not None]
    assert reached == [
        True, False, True, False, False, True, False, True, True, True, False, True, False, False,
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_the_2019_way_is_held_against_both_precisions_on_a_gpu() -> None:
    found = case("sst2", 12, 3, finetune=1.0)
    found["contenders"] |= {
        "2019": summary([6.0]), "cache-skip": summary([0.5]), "cache-skip-float32": summary([1.5])
    }  # fmt: skip
    in_float32, in_bfloat16 = (t.of({"steps": [found]}) for t in TARGETS[8:10])
    assert (in_float32, in_bfloat16) == (4.0, 12.0)


def test_shares_of_a_matrix_peak_are_those_of_bfloat16() -> None:
    found = PARTS["arithmetic"] | {"precision": "float32"}
    values = [t.of({"arithmetic": found}) for t in TARGETS if "matrix peak" in t.text]
    assert values == [None, None]
    text = page_text({"x": {
        "command": "c", "precision": "float32", "load": {"before": [1.0] * 3, "after": [1.0] * 3},
        "machine": dict.fromkeys(
            ("processor", "cores", "threads", "device", "python", "torch", "transformers"), "y"),
        "parts": {"arithmetic": {"found": found, "seconds": 1.0}}}})  # fmt: skip
    assert "| stage two, 3 layers | 256 | 17,000 | 280,000 | 35.0% |" in text


def test_every_target_is_of_a_part_that_measures_it() -> None:
    for target in TARGETS:
        assert target.part in SUITE
        others = {name: found for name, found in PARTS.items() if name != target.part}
        assert target.of(others) is None, target.text


def test_what_did_not_run_is_not_measured() -> None:
    assert [target.of({}) for target in TARGETS] == [None] * len(TARGETS)


def committed() -> dict[str, dict[str, Any]]:
    return {path.stem: read_json(path) for path in sorted(FOLDER.glob("*.json"))}


def test_the_page_is_what_its_runs_say() -> None:
    assert PAGE.read_text("utf-8") == page_text(committed()), (
        "docs/benchmarks.md is not what docs/benchmarks/*.json say: run `python -m benchmarks.page`"
    )


def test_the_page_names_no_machine() -> None:
    for text in (PAGE.read_text("utf-8"), *(p.read_text("utf-8") for p in FOLDER.iterdir())):
        assert not re.search(r"/(?:home|root|work|tmp|opt|usr)/", text)


def test_the_committed_runs_are_whole() -> None:
    for name, result in committed().items():
        assert not result["quick"], name
        assert set(result["load"]) == {"before", "after"}


def test_the_page_says_what_was_reached() -> None:
    result = committed()["cpu"]
    text = page_text(
        {
            "cpu": result | {"parts": {"sweep": {"missing": "no zarr", "seconds": 0.1}}},
            "rest": result
            | {"parts": {p: v for p, v in result["parts"].items() if p != "startup"}},
        }
    )
    assert "Not measured: no zarr." in text
    first, rest = text.split("## rest")
    targets = [line for line in first.splitlines() if "| not measured |" in line]
    # of its own part, and of the one that no run had; of those that another run had there are none
    assert [line.split("|")[1].strip() for line in targets] == [
        target.text
        for target in TARGETS
        if target.part in ("sweep", "startup") or target.part not in result["parts"]
    ]
    assert "`--help`" not in rest
    rows = [line for line in page_text({"cpu": result}).splitlines() if " ≥ " in line]
    assert rows
    assert all(re.search(r"reached|not measured", row) for row in rows)


def test_first_steps_stand_side_by_side() -> None:
    found = {
        "rows": 2490, "batch_size": 4, "student": "bert-base shape, 3 layers of 768",
        "contenders": {"fit": summary([9.0, 7.0]), "script": summary([5.0])},
    }  # fmt: skip
    text = SECTIONS["first-step"](found)
    assert "| `pkd-student fit` | 8.00 | 7.50 - 8.50 | 2 |" in text
    assert "| a bare script of `transformers` | 5.00 | 5.00 - 5.00 | 1 |" in text


def test_what_scatters_is_shown_apart() -> None:
    floor = {
        "task": "rte", "student": "bert-base shape, 3 layers of 768", "batch_size": 16,
        "precision": "float32", "clock": "process_time", "load": 1.0,
    }  # fmt: skip
    text = SECTIONS["floor"](PARTS["floor"] | floor)
    assert "| 1 | 2.50 | 3.00 | 1.200 |" in text
    assert "| 2 | 5.00 | 6.00 | 1.200 |" in text
    pieces = {"pass": 200.0, "again": 4.0, "load": 1.0, "tokens": 2.0, "encode": 0.5, "rest": 0.5}
    build = {
        "rows": {"train": 6000, "dev": 872}, "teacher": "bert-base shape, 12 layers of 768",
        "clock": "thread_time", "load": 1.0, "pieces": pieces, "total": 208.0,
    }  # fmt: skip
    text = SECTIONS["build-pieces"](build)
    assert "| 64 rows of each split again, for the error | 4.00 | 1.9% |" in text
    assert "| whole build | 208.00 | 100.0% |" in text


def test_a_grid_says_how_many_single_students_stand_for_it() -> None:
    found = {
        "students": 12, "student": "3 layers", "rows": {"train": 2490, "dev": 277}, "epochs": 3,
        "single": [10.0, 14.0], "fits": 144.0, "sweep": 108.0,
    }  # fmt: skip
    text = SECTIONS["sweep"](found)
    assert "2 of them were run (10 to 14 seconds)" in text
    assert re.search(r"12 times `pkd-student fit` +\| +144 +\|", text)
    assert re.search(r"one `pkd-student sweep` +\| +108 +\| +0\.75", text)
