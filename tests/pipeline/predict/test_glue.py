"""pytest tests/pipeline/predict/test_glue.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.glue import FOLDERS
from pipeline.errors import DataError
from pipeline.predict.glue import SITE_ROWS, rows_warning, submission_of, submission_path
from pipeline.predict.rows import Columns, Row
from pipeline.predict.student import Described
from pipeline.tasks import BUILT_IN, GLUE_NAMES

# as in the site's sample submission
SITE_LABELS = {
    "cola": {"unacceptable": "0", "acceptable": "1"},
    "sst2": {"negative": "0", "positive": "1"},
    "mrpc": {"not_equivalent": "0", "equivalent": "1"},
    "qqp": {"not_duplicate": "0", "duplicate": "1"},
    "mnli": {name: name for name in ("entailment", "neutral", "contradiction")},
    "qnli": {"entailment": "entailment", "not_entailment": "not_entailment"},
    "rte": {"entailment": "entailment", "not_entailment": "not_entailment"},
    "wnli": {"not_entailment": "0", "entailment": "1"},
}


def student(task: str | None, labels: tuple[str, ...]) -> Described:
    columns = Columns(texts=(("a",),))
    return Described(name="s", task=task, labels=labels, columns=columns, max_length=8)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("task", SITE_LABELS)
def test_labels_as_the_site_writes_them_in_whatever_order_the_student_has_them(
    task: str, backwards: bool
) -> None:
    names = BUILT_IN[task].label_names[:: -1 if backwards else 1]
    layout = submission_of(student(task, names))
    rows = [Row(place, ("t",), ()) for place in range(len(names))]
    index, prediction = layout.columns(rows, np.eye(len(names), dtype=np.float32))
    assert list(prediction) == [SITE_LABELS[task][name] for name in names]
    assert list(index) == list(range(len(names)))
    assert layout.names == ("index", "prediction")


def test_scores_of_stsb_stay_on_its_scale() -> None:
    rows = [Row(place, ("t",), ()) for place in range(3)]
    _, prediction = submission_of(student("stsb", ())).columns(
        rows, np.array([[-0.1], [2.5], [5.1]], np.float32)
    )
    assert list(prediction) == [0.0, 2.5, 5.0]


def test_every_task_has_its_file() -> None:
    assert {*SITE_LABELS, "stsb"} == set(GLUE_NAMES)
    names = {submission_path(task, Path("o"), "test_matched.tsv").name for task in GLUE_NAMES}
    assert names == {f"{name}.tsv" for name in {*FOLDERS.values(), "MNLI-m"} - {"MNLI"}}
    assert names | {"MNLI-mm.tsv", "AX.tsv"} == {f"{name}.tsv" for name in SITE_ROWS}


@pytest.mark.parametrize(
    ("target", "source", "file"),
    [
        ("out", "glue/MNLI/test_matched.tsv", "out/MNLI-m.tsv"),
        ("out", "data/raw/mnli/test_mismatched.parquet", "out/MNLI-mm.tsv"),
        ("out", "diagnostic.tsv", "out/AX.tsv"),
        ("out/MNLI-mm.tsv", "mine.csv", "out/MNLI-mm.tsv"),
    ],
)
def test_the_files_of_mnli(target: str, source: str, file: str) -> None:
    assert submission_path("mnli", Path(target), source) == Path(file)


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        ("mnli", "out", "mine: is this MNLI's matched or mismatched test split"),
        ("mnli", "out/MNLI.tsv", "file for mnli is MNLI-m.tsv, MNLI-mm.tsv, AX.tsv"),
        ("rte", "out/rte.tsv", "file for rte is RTE.tsv"),
    ],
)
def test_a_file_that_the_site_would_not_take(task: str, target: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        submission_path(task, Path(target), "mine.csv")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("tickets", ("a", "b"), "of task tickets; --glue-submission is for students of cola"),
        (None, ("a", "b"), "of task unknown"),
        ("rte", ("LABEL_0", "LABEL_1"), "labels are LABEL_0, LABEL_1; expected those of rte"),
        ("stsb", ("a", "b"), "expected those of stsb: a number"),
        ("rte", (), "its labels are a number"),
    ],
)
def test_a_student_of_something_else(
    task: str | None, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        submission_of(student(task, labels))
    assert message in str(caught.value)


def test_another_number_of_rows_than_the_site_has_is_told() -> None:
    assert rows_warning(Path("o/RTE.tsv"), 3000) is None
    assert rows_warning(Path("o/RTE.tsv"), 277) == (
        "RTE.tsv: the site expects 3,000 rows, this has 277."
    )
