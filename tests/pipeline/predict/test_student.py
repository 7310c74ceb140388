"""pytest tests/pipeline/predict/test_student.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.glue import COLA_HEADER
from pipeline.errors import ModelError, ParamsError
from pipeline.predict.rows import Columns
from pipeline.predict.student import describe_student
from tests.support.students import save_student

OWN = {"tickets": {"text": ["subject", "body"], "label": "queue", "labels": ["a", "b"]}}


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({"task": "tickets", "text_columns": ["title"]}, Columns(texts=(("title",),))),
        ({"task": "tickets"}, Columns(texts=(("subject",), ("body",)))),  # of an older version
        (
            {"task": "mrpc"},
            Columns(texts=(("sentence1", "#1 String"), ("sentence2", "#2 String"))),
        ),
        ({"task": "cola"}, Columns(texts=(("sentence",),), header=COLA_HEADER)),
    ],
)
def test_the_columns_are_those_of_the_students_task(
    record: dict[str, Any], columns: Columns, tmp_path: Path
) -> None:
    folder = save_student(tmp_path / "s", **record)
    assert describe_student(str(folder), OWN).columns == columns


def test_what_a_folder_says_and_what_a_person_says_instead(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "s", ("x", "y", "z"), task="tickets", max_length=24)
    found = describe_student(str(folder), OWN)
    assert (found.labels, found.max_length, found.task) == (("x", "y", "z"), 24, "tickets")
    other = describe_student(str(folder), OWN, text_columns=["t", "u"], keep=["id"], max_length=9)
    assert other.columns == Columns(texts=(("t",), ("u",)), kept=("id",))
    assert other.max_length == 9
    assert describe_student(str(save_student(tmp_path / "n", (), task="stsb")), {}).labels == ()


def test_a_teacher_is_described_as_well(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "s", task="rte", max_length=24)
    (folder / "run.json").rename(folder / "teacher.json")
    assert describe_student(str(folder), {}).columns.texts == (("sentence1",), ("sentence2",))


@pytest.mark.parametrize(
    ("record", "more", "message"),
    [
        ({}, {}, "no record says which columns it reads; name one or two with --text-columns"),
        ({"task": "other"}, {}, "no record says which columns"),
        ({"task": "rte"}, {"text_columns": ["a"]}, "expected 2 (sentence1, sentence2) columns"),
        ({}, {"text_columns": ["a", "b", "c"]}, "expected one or two columns, found 3"),
    ],
)
def test_columns_that_cannot_be(
    record: dict[str, Any], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = save_student(tmp_path / "s", **record)
    with pytest.raises(ParamsError) as caught:
        describe_student(str(folder), {}, max_length=8, **more)
    assert message in str(caught.value)


def test_models_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        describe_student("./none", {})
    folder = save_student(tmp_path / "s", task="rte")
    with pytest.raises(ModelError, match="reads at most 64 tokens, max_length is 65"):
        describe_student(str(folder), {}, max_length=65)
    config = json.loads((folder / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="gives several labels to a row"):
        describe_student(str(folder), {}, max_length=8)
