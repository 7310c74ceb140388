"""Benches in a built report: pytest tests/pipeline/report/test_report_benches.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.run import BenchParams, run_bench
from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.report.benches import parse_bench
from tests.pipeline.report.shelf import Shelf, tiny_bert, word_tokenizer
from tests.pipeline.report.test_report_answers import build, section

NAME = "rte-skip-2-s0"
HEADING = f"Bench {NAME}: latency and throughput"


@pytest.fixture
def benched(shelf: Shelf) -> Path:
    """A real bench of the shelf's teacher and a student, its figures then set by hand."""
    student = shelf.add(strategy="skip")
    teacher = shelf.sources.teachers / "rte"
    word_tokenizer().save_pretrained(teacher)
    run_bench(
        students=[student], teacher=str(teacher), exports=[], name=NAME,
        folder=shelf.sources.metrics,
        params=BenchParams(batch_sizes=(1, 8), lengths=(4, 16), seconds=0.0, threads=1),
    )  # fmt: skip
    path = shelf.sources.metrics / f"bench-{NAME}.json"
    record = read_json(path)
    for each in record["timings"]:
        each["p50_ms"] = (
            each["batch_size"] * each["length"] * 0.5 * (2.5 if "teacher" in each["name"] else 1.0)
        )
        each["rows_per_second"] = 1000 / each["length"]
    write_json(path, record)
    return path


def line(markdown: str, model: str) -> list[str]:
    """The cells of the one line of a model in the bench's table."""
    part = section(markdown, HEADING)
    (found,) = [row for row in part.splitlines() if row.startswith(f"| {model} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_bench_stands_in_both_pages(shelf: Shelf, benched: Path) -> None:
    markdown, html = build(shelf)
    head = ["accuracy", "size", "1 × 4", "8 × 4", "1 × 16", "8 × 16", "rows/s"]
    assert line(markdown, "model") == ["model", "runtime", *head]
    student = line(markdown, NAME)
    assert student[:3] == [NAME, "PyTorch", "66.0"]
    times = ["2.0 (2.5×)", "16.0 (2.5×)", "8.0 (2.5×)", "64.0 (2.5×)", "62"]
    assert student[4:] == times
    taught = line(markdown, "teacher rte")
    assert (taught[1], taught[2]) == ("PyTorch", "70.0")
    assert taught[4:] == ["5.0", "40.0", "20.0", "160.0", "62"]
    assert "1 thread a call" in section(markdown, HEADING)
    assert HEADING in html
    assert "no bench of these students" not in markdown


@pytest.mark.parametrize(
    ("scores", "shown"), [({}, "–"), ({"validation": {"accuracy": 0.645}}, "64.5")]
)
def test_an_int8_file_has_no_score_of_its_student(
    shelf: Shelf, benched: Path, scores: dict[str, Any], shown: str
) -> None:
    record = read_json(benched)
    (student,) = [each for each in record["contenders"] if each["role"] == "student"]
    record["contenders"].append(
        student | {"name": "x, ONNX int8", "runtime": "int8", "scores": scores}
    )
    of_student = [each for each in record["timings"] if each["name"] == student["name"]]
    record["timings"] += [each | {"name": "x, ONNX int8"} for each in of_student]
    write_json(benched, record)
    part = section(build(shelf)[0], HEADING)
    assert f"| {NAME} | ONNX int8 | {shown} |" in part
    assert f"| {NAME} | PyTorch | 66.0 |" in part


def test_a_student_trained_again_is_left_out(shelf: Shelf, benched: Path) -> None:
    folder = shelf.sources.students / NAME
    tiny_bert(2, seed=9).save_pretrained(folder)
    markdown, _ = build(shelf)
    told = f"Left out: bench-{NAME}.json: {NAME} has been trained again since; measure it again."
    assert told in markdown.replace("\\", "")
    assert HEADING not in markdown


def test_benches_of_other_students_are_passed_over(shelf: Shelf, benched: Path) -> None:
    shutil.rmtree(shelf.sources.students / NAME)
    shelf.add(strategy="kd")
    markdown, _ = build(shelf)
    assert HEADING not in markdown
    assert "Left out: no bench of these students is there" in markdown


def test_a_teacher_of_others_gives_no_speed_up(shelf: Shelf, benched: Path) -> None:
    record = read_json(benched)
    record["contenders"][0]["digest"] = "0" * 64
    write_json(benched, record)
    part = section(build(shelf)[0], HEADING)
    assert "teacher rte" not in part
    assert "faster than the teacher" not in part
    assert "| 2.0 | 16.0 | 8.0 | 64.0 |" in part


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "sweep"}, "`kind` and `format` are 'sweep' and 1"),
        ({"timings": []}, "`timings` are not of every model and shape"),
        ({"contenders": "x"}, "`contenders` is no list of records"),
        ({"machine": None}, "`machine` is None"),
    ],
)
def test_a_file_that_is_no_bench_is_named(
    shelf: Shelf, benched: Path, change: dict[str, Any], told: str
) -> None:
    record = read_json(benched) | change
    with pytest.raises(DataError, match=told):
        parse_bench(record)
    write_json(benched, record)
    markdown = build(shelf)[0].replace("\\", "")
    assert f"Left out: bench-{NAME}.json: {told}" in markdown


@pytest.mark.parametrize(
    ("change", "told"),
    [({"p50_ms": 0}, "not a time"), ({"batch_size": -1}, "not a count"), ({"name": "y"}, "every")],
)
def test_a_timing_that_is_none_is_refused(benched: Path, change: dict[str, Any], told: str) -> None:
    record = read_json(benched)
    record["timings"][-1] |= change
    with pytest.raises(DataError, match=told):
        parse_bench(record)


def test_an_unknown_runtime_is_refused(benched: Path) -> None:
    record = read_json(benched)
    record["contenders"][0]["runtime"] = "jit"
    with pytest.raises(DataError, match="`runtime` is 'jit', not one of pytorch, float32, int8"):
        parse_bench(record)
