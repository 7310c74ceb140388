"""pytest tests/pipeline/data/test_labels.py."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.data.labels import parse_labels
from pipeline.data.raw import Raw
from pipeline.errors import DataError
from pipeline.tasks import BUILT_IN, Task

RTE = BUILT_IN["rte"]
STSB = BUILT_IN["stsb"]
GRADES = Task(name="grades", text_columns=("text",), label_names=("1", "2", "3"))
OWN_NUMBERS = Task(name="degrees", text_columns=("text",), metrics=("pearson",))


def rows(*labels: Any) -> Raw:
    return Raw("train.csv", {"label": list(labels)}, range(2, len(labels) + 2))


def test_labels_are_read_by_name_or_by_index() -> None:
    by_name = parse_labels(rows("not_entailment", " entailment "), RTE, required=True)
    by_text = parse_labels(rows("1", "0"), RTE, required=True)
    by_number = parse_labels(rows(1, 0), RTE, required=True)
    by_float = parse_labels(rows(1.0, 0.0), RTE, required=True)
    assert by_name == by_text == by_number == by_float == [1, 0]


@pytest.mark.parametrize(
    ("labels", "line", "found"),
    [
        (("entailment", "1", "not_entailment"), 3, "1"),
        (("0", "1", "entailment"), 4, "entailment"),
    ],
)
def test_names_and_indices_do_not_mix(labels: tuple[str, ...], line: int, found: str) -> None:
    with pytest.raises(DataError, match=rf"train\.csv, line {line}: .* found `{found}`"):
        parse_labels(rows(*labels), RTE, required=True)


def test_an_even_mix_is_refused_too() -> None:
    with pytest.raises(DataError, match=r"line 3: .*one of entailment, .* or everywhere 0 to 1"):
        parse_labels(rows("entailment", 1), RTE, required=True)


def test_names_that_are_numbers_are_names() -> None:
    assert parse_labels(rows(1, 3, 2), GRADES, required=True) == [0, 2, 1]
    assert parse_labels(rows("1", "3", 2.0), GRADES, required=True) == [0, 2, 1]
    with pytest.raises(DataError, match="line 2: label: expected one of 1, 2, 3; found `0`"):
        parse_labels(rows(0, 1, 2), GRADES, required=True)


@pytest.mark.parametrize("label", ["2", "-1", -1, "01", "1.5", 0.5, True, "Entailment"])
def test_an_unknown_label_is_named(label: object) -> None:
    with pytest.raises(DataError, match=r"train\.csv, line 4: label: expected .*; found `"):
        parse_labels(rows("0", "1", label), RTE, required=True)


def test_an_unknown_label_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"found `entailmnt`. Did you mean `entailment`\?"):
        parse_labels(rows("entailment", "entailment", "entailmnt"), RTE, required=True)


@pytest.mark.parametrize("missing", [None, "", "  ", math.nan])
def test_a_missing_label_is_an_error_only_where_labels_are_required(missing: object) -> None:
    with pytest.raises(DataError, match=r"line 3: label: expected .*; found none"):
        parse_labels(rows("entailment", missing), RTE, required=True)
    assert parse_labels(rows("entailment", missing), RTE, required=False) == [0, None]


def test_a_test_split_without_the_column_is_unlabelled() -> None:
    raw = Raw("test.tsv", {"text": ["a", "b"]}, [2, 3])
    assert parse_labels(raw, RTE, required=False) == [None, None]


def test_minus_one_is_unlabelled_on_the_hub_but_a_number_in_own_regression() -> None:
    assert parse_labels(rows(-1, -1), RTE, required=False) == [None, None]
    assert parse_labels(rows(-1.0, "-1"), STSB, required=False) == [None, None]
    assert parse_labels(rows(-1.0, 2.5), OWN_NUMBERS, required=False) == [-1.0, 2.5]


def test_unlabelled_marks_have_no_say_in_whether_labels_are_indices_or_names() -> None:
    assert parse_labels(rows(-1, 1, -1, 0), RTE, required=False) == [None, 1, None, 0]
    assert parse_labels(rows("-1", "", "-1", 1), RTE, required=False) == [None, None, None, 1]
    by_name = rows(-1, "not_entailment", -1, -1)
    assert parse_labels(by_name, RTE, required=False) == [None, 1, None, None]
    with pytest.raises(DataError, match="line 5: label: expected 0 to 1 .*; found `entailment`"):
        parse_labels(rows(-1, 0, 1, "entailment"), RTE, required=False)


def test_regression_labels_are_finite_numbers() -> None:
    labels = parse_labels(rows("3.800", 5, "-1e-3", 2.5), OWN_NUMBERS, required=True)
    assert labels == [3.8, 5.0, -0.001, 2.5]
    assert all(isinstance(label, float) for label in labels)


@pytest.mark.parametrize("label", ["inf", "-inf", "nan", math.inf, "high", "1,5", True, "0x10"])
def test_what_is_no_finite_number_is_no_regression_label(label: object) -> None:
    with pytest.raises(DataError, match="line 3: label: expected a finite number; found"):
        parse_labels(rows(1.0, label), OWN_NUMBERS, required=True)
