"""pytest tests/pipeline/test_tasks.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import ParamsError
from pipeline.tasks import BUILT_IN, GLUE_NAMES, Task, find_task, parse_own_task

TICKETS = {"text": ["subject", "body"], "label": "queue", "labels": ["a", "b", "c"], "id": "ticket"}


def test_the_nine_glue_tasks_have_the_hubs_columns_and_label_order() -> None:
    """From the dataset card of nyu-mll/glue."""
    assert {name: BUILT_IN[name].text_columns for name in GLUE_NAMES} == {
        "cola": ("sentence",),
        "sst2": ("sentence",),
        "mrpc": ("sentence1", "sentence2"),
        "stsb": ("sentence1", "sentence2"),
        "qqp": ("question1", "question2"),
        "mnli": ("premise", "hypothesis"),
        "qnli": ("question", "sentence"),
        "rte": ("sentence1", "sentence2"),
        "wnli": ("sentence1", "sentence2"),
    }
    assert {name: BUILT_IN[name].label_names for name in GLUE_NAMES} == {
        "cola": ("unacceptable", "acceptable"),
        "sst2": ("negative", "positive"),
        "mrpc": ("not_equivalent", "equivalent"),
        "stsb": (),
        "qqp": ("not_duplicate", "duplicate"),
        "mnli": ("entailment", "neutral", "contradiction"),
        "qnli": ("entailment", "not_entailment"),
        "rte": ("entailment", "not_entailment"),
        "wnli": ("not_entailment", "entailment"),
    }


@pytest.mark.parametrize("task", BUILT_IN.values(), ids=lambda task: task.name)
def test_to_dict_and_from_dict_are_inverses(task: Task) -> None:
    content = task.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert Task.from_dict(content) == task


def test_outputs_and_splits() -> None:
    assert [BUILT_IN[name].num_outputs for name in ("rte", "mnli", "stsb")] == [2, 3, 1]
    assert [BUILT_IN[name].is_regression for name in ("rte", "mnli", "stsb")] == [
        False,
        False,
        True,
    ]
    assert BUILT_IN["rte"].splits == ("train", "validation", "test")
    assert BUILT_IN["mnli"].splits == (
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
    )


def test_find_task_knows_built_in_and_own_tasks() -> None:
    assert find_task("rte", {}) is BUILT_IN["rte"]
    assert find_task("tickets", {"tickets": TICKETS}).name == "tickets"


def test_an_unknown_task_suggests_the_nearest() -> None:
    message = r"Unknown task `tikets`. Did you mean `tickets`\? Known: cola, .*, tickets\."
    with pytest.raises(ParamsError, match=message):
        find_task("tikets", {"tickets": TICKETS})
    with pytest.raises(ParamsError, match=r"Did you mean `mnli`\? .* under `tasks\.mnl`"):
        find_task("mnl", {})


def test_an_own_task_in_full_and_in_short() -> None:
    assert parse_own_task("tickets", TICKETS) == Task(
        name="tickets",
        text_columns=("subject", "body"),
        label_names=("a", "b", "c"),
        label_column="queue",
        metrics=("accuracy",),
        id_column="ticket",
    )
    short = parse_own_task("stars", {"text": "review"})
    assert short == Task(
        name="stars",
        text_columns=("review",),
        metrics=("pearson", "spearman"),
        label_column="label",
    )


def test_labels_may_be_numbers_and_metrics_one_name() -> None:
    task = parse_own_task("grades", {"text": "t", "labels": [1, 2], "metrics": "f1"})
    assert (task.label_names, task.metrics) == (("1", "2"), ("f1",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lable": "queue"}, r"tasks\.own: unknown key `lable`. Did you mean `label`\?"),
        ({"text": []}, r"tasks\.own\.text: expected one or two columns, found \[\]"),
        ({"text": None}, r"tasks\.own\.text: expected one or two columns"),
        ({"text": ["a", "b", "c"]}, "expected one or two columns"),
        ({"text": ["a", "a"]}, "column `a` is named twice"),
        ({"text": "queue"}, "column `queue` is named twice"),
        ({"id": "queue"}, "column `queue` is named twice"),
        ({"text": "example_id"}, "`example_id` is a column of prepared data"),
        ({"text": "label"}, "`label` is a column of prepared data"),
        ({"text": [["a"]]}, "expected a name or a list of names"),
        ({"text": {"a": 1}}, "expected a name or a list of names"),
        ({"label": None}, "expected a name"),
        ({"label": ""}, "expected a name"),
        ({"id": 1.5}, r"tasks\.own\.id: expected a name"),
        ({"labels": ["a"]}, "expected two or more different names"),
        ({"labels": ["a", "b", "a"]}, "expected two or more different names"),
        ({"labels": [1.0, 2.0]}, "expected a name"),
        ({"labels": [False, True]}, 'found false, which is how YAML reads yes, no, .* "yes"'),
        ({"metrics": ["acuracy"]}, r"unknown metric `acuracy`. Did you mean `accuracy`\?"),
        ({"metrics": ["pearson"]}, "`pearson` does not measure classification"),
        ({"metrics": ["f1"]}, "`f1` needs two labels"),
        ({"labels": None, "metrics": ["accuracy"]}, "`accuracy` does not measure regression"),
    ],
)
def test_a_malformed_own_task_names_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_own_task("own", {**TICKETS, **changes})


@pytest.mark.parametrize("content", [None, "text", ["text"], 3])
def test_an_own_task_must_be_a_mapping(content: object) -> None:
    with pytest.raises(ParamsError, match=r"tasks\.own: expected keys and values, found"):
        parse_own_task("own", content)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_tasks_name_must_be_fit_for_a_file(name: str) -> None:
    with pytest.raises(ParamsError, match="a task's name has letters"):
        parse_own_task(name, TICKETS)


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(ParamsError, match="`rte` is built in; choose another name"):
        find_task("rte", {"rte": TICKETS})
