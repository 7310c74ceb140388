"""Run with: pytest tests/pipeline/report/test_report_records.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.files import write_json
from pipeline.report.load import load_cache_build, load_students, load_teacher, parse_student
from tests.pipeline.report.shelf import Shelf


def test_a_record_is_read_whole(shelf: Shelf) -> None:
    shelf.add(strategy="skip", seed=3, score=0.665)
    (run,), skipped = load_students(shelf.sources.students)
    assert not skipped
    assert (run.task, run.strategy, run.depth, run.seed) == ("rte", "skip", 2, 3)
    assert run.score == 0.665
    assert run.kept == pytest.approx(0.95)
    assert run.layer_map == ((1, 2),)
    assert [epoch.losses["total"] for epoch in run.history] == [1.5, 0.75, 0.5]
    assert run.settings == {
        "alpha": 0.5,
        "beta": 100.0,
        "init": "i" * 64,
        "teacher": shelf.teacher_digest,
        "other_teachers": None,
        "cache_dtype": None,
        "max_length": None,
        "metric": "accuracy",
        "train_rows": 100,
        "labelled_rows": 100,
        "layer_map": [[1, 2]],
    }
    assert (run.train_rows, run.labelled_rows, run.unlabelled_rows) == (100, 100, 0)


def test_rows_without_labels_are_counted_where_a_record_tells(shelf: Shelf) -> None:
    run = parse_student(shelf.record(labelled_rows=37), Path("x"))
    assert run.unlabelled_rows == 63
    for unknown in ("train_rows", "labelled_rows"):
        assert parse_student(shelf.record(**{unknown: None}), Path("x")).unlabelled_rows == 0
    with pytest.raises(DataError, match="`labelled_rows` is 'all', not a count"):
        parse_student(shelf.record(labelled_rows="all"), Path("x"))


def test_the_time_of_a_pretraining_counts(shelf: Shelf) -> None:
    run = parse_student(shelf.record(seconds=6.0, pretrain={"seconds": 2.5}), Path("x"))
    assert run.seconds == 8.5
    assert parse_student(shelf.record(pretrain=None), Path("x")).seconds == 6.0


def test_the_folder_gives_the_name(shelf: Shelf) -> None:
    shelf.add("renamed", strategy="kd")
    (run,), _ = load_students(shelf.sources.students)
    assert run.name == "renamed"


def test_mnli_is_scored_on_the_matched_split(shelf: Shelf) -> None:
    scores = {"validation_mismatched": {"accuracy": 0.5}, "validation_matched": {"accuracy": 0.6}}
    run = parse_student(shelf.record(scores=scores), Path("x"))
    assert (run.split, run.score) == ("validation_matched", 0.6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"other_teachers": ["large"]}, "`other_teachers` is ['large'], not names and digests"),
        ({"kind": "teacher"}, "run.json is of kind 'teacher', not `student`"),
        ({"format": 2}, "run.json has format 2; this version reads 1"),
        ({"task": ""}, "`task` is '', not text"),
        ({"student_layers": "3"}, "`student_layers` is '3', not a count"),
        ({"seconds": True}, "`seconds` is True, not a finite number"),
        ({"scores": {"validation": {"f1": 0.5}}}, "no `accuracy` in its scores"),
        ({"scores": [1]}, "`scores` is [1], not scores by split"),
        ({"scores": {"validation": {"accuracy": None}}}, "`accuracy` is None, not a finite number"),
        ({"layer_map": [1, 2]}, "`layer_map` is [1, 2], not pairs of layers"),
        ({"cache": None}, "`cache` is None, not keys and values"),
        ({"teacher": {"name": "rte"}}, "`digest` is None, not text"),
        ({"history": [7]}, "history: expected one record per epoch"),
    ],
)
def test_a_broken_record_is_named_with_its_field(
    shelf: Shelf, changes: dict[str, Any], reason: str
) -> None:
    shelf.add("good", strategy="kd")
    shelf.add("bad", **changes)
    runs, (skipped,) = load_students(shelf.sources.students)
    assert [run.name for run in runs] == ["good"]
    assert (skipped.name, skipped.reason) == ("bad", reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "run.json is not readable JSON"),
        (b"\xff\xfe", "run.json is not readable JSON"),
        (b"[1]", "run.json is not a record"),
        (b'{"format": 1, "kind": "student", "task": NaN}', "`metric` is None, not text"),
        (None, "no run.json"),
    ],
)
def test_a_folder_that_is_no_run_is_named(shelf: Shelf, content: bytes | None, reason: str) -> None:
    folder = shelf.sources.students / "strange"
    folder.mkdir()
    if content is not None:
        (folder / "run.json").write_bytes(content)
    runs, (skipped,) = load_students(shelf.sources.students)
    assert not runs
    assert (skipped.name, skipped.reason) == ("strange", reason)


def test_unfinished_runs_and_files_are_passed_over(shelf: Shelf) -> None:
    shelf.add(".rte-skip-2-s0.partial")
    (shelf.sources.students / ".gitignore").write_text("/x\n")
    (shelf.sources.students / "notes.txt").write_text("hello")
    assert load_students(shelf.sources.students) == ([], [])
    assert load_students(shelf.root / "nowhere") == ([], [])


def test_a_teacher_folder_is_read(shelf: Shelf) -> None:
    teacher = load_teacher(shelf.sources.teachers / "rte")
    assert (teacher.parameters, teacher.size_bytes) == (20_000, 80_000)
    with pytest.raises(DataError, match=r"^no teacher\.json$"):
        load_teacher(shelf.sources.teachers)


def test_a_resumed_build_timed_no_whole_pass(tmp_path: Path) -> None:
    path = tmp_path / "cache-rte.json"
    write_json(path, {"seconds": 3.0, "train_pass_seconds": None, "device": "cpu"})
    with pytest.raises(DataError, match="no whole teacher pass was timed"):
        load_cache_build(path)
