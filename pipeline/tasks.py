"""Tasks: what the columns, labels and metrics of a data set are.

Built in are the demo and the nine GLUE tasks, with the names, columns and label order of the hub
(`nyu-mll/glue`). Any other task is described in `params.yaml` under `tasks.<name>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ParamsError, did_you_mean

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One classification or regression task."""

    name: str
    text_columns: tuple[str, ...]
    """One column, or two for sentence pairs."""
    label_names: tuple[str, ...] = ()
    """Names in the order of the class index; empty for regression."""
    label_column: str = "label"
    """In the source's files; prepared data always calls it `label`."""
    metrics: tuple[str, ...] = ("accuracy",)
    """The first one chooses the best checkpoint and stands in tables."""
    validation_splits: tuple[str, ...] = ("validation",)
    """The first one chooses the best checkpoint."""
    id_column: str | None = None
    """Column with unique integer ids; left out: the row's place in its split."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that data may have: train, validation, and a test split (maybe absent) of each."""
        tests = [name.replace("validation", "test") for name in self.validation_splits]
        return ("train", *self.validation_splits, *tests)

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers."""
        return not self.label_names

    @property
    def num_outputs(self) -> int:
        """Logits per row: the classes, or one for regression."""
        return len(self.label_names) or 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the inverse of `from_dict`."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Task:
        """Read what `to_dict` wrote."""
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in content.items()
        }
        return cls(**values)


PAIR = ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")

BUILT_IN: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="cola",
            text_columns=("sentence",),
            label_names=("unacceptable", "acceptable"),
            metrics=("matthews",),
        ),
        Task(name="sst2", text_columns=("sentence",), label_names=("negative", "positive")),
        Task(
            name="mrpc",
            text_columns=PAIR,
            label_names=("not_equivalent", "equivalent"),
            metrics=("f1", "accuracy"),
        ),
        Task(name="stsb", text_columns=PAIR, metrics=("pearson", "spearman")),
        Task(
            name="qqp",
            text_columns=("question1", "question2"),
            label_names=("not_duplicate", "duplicate"),
            metrics=("f1", "accuracy"),
        ),
        Task(
            name="mnli",
            text_columns=("premise", "hypothesis"),
            label_names=("entailment", "neutral", "contradiction"),
            validation_splits=("validation_matched", "validation_mismatched"),
        ),
        Task(name="qnli", text_columns=("question", "sentence"), label_names=ENTAILMENT),
        Task(name="rte", text_columns=PAIR, label_names=ENTAILMENT),
        Task(name="wnli", text_columns=PAIR, label_names=("not_entailment", "entailment")),
        Task(name="demo", text_columns=PAIR, label_names=ENTAILMENT),
    )
}
GLUE_NAMES = tuple(name for name in BUILT_IN if name != "demo")

OWN_KEYS = ("text", "label", "labels", "metrics", "id")
OUR_COLUMNS = ("example_id", "label")  # of prepared data, beside the text columns
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # task names become file names


def find_task(name: str, own_tasks: Mapping[str, Any]) -> Task:
    """Look a task up by name.

    Args:
        name: a built-in task, or a key of `own_tasks`.
        own_tasks: the `tasks` section of `params.yaml`.

    Raises:
        ParamsError: no such task (the nearest name is suggested), or a malformed description.
    """
    if name in own_tasks:
        return parse_own_task(name, own_tasks[name])
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = (*BUILT_IN, *own_tasks)
    raise ParamsError(
        f"Unknown task `{name}`.{did_you_mean(name, known)} Known: {', '.join(known)}. "
        f"Describe your own in params.yaml under `tasks.{name}`."
    )


def parse_own_task(name: str, content: Any) -> Task:
    """Parse `tasks.<name>`: text, label, labels (absent for regression), metrics, id."""
    place = f"params.yaml: tasks.{name}"
    _check_name(name, place)
    if not isinstance(content, Mapping):
        raise ParamsError(f"{place}: expected keys and values, found {content!r}.")
    for key in content:
        if key not in OWN_KEYS:
            raise ParamsError(f"{place}: unknown key `{key}`.{did_you_mean(str(key), OWN_KEYS)}")
    labels = _names(content.get("labels") or [], f"{place}.labels")
    task = Task(
        name=name,
        text_columns=_names(content.get("text") or [], f"{place}.text"),
        label_names=labels,
        label_column=_name(content.get("label", "label"), f"{place}.label"),
        metrics=_names(content.get("metrics") or _default_metrics(labels), f"{place}.metrics"),
        id_column=_name(content["id"], f"{place}.id") if content.get("id") is not None else None,
    )
    _check_columns(task, place)
    _check_labels(task, place)
    _check_metrics(task, place)
    return task


def _default_metrics(labels: tuple[str, ...]) -> list[str]:
    return ["accuracy"] if labels else ["pearson", "spearman"]


def _names(value: object, place: str) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(_name(each, place) for each in value)
    return (_name(value, place),)


def _name(value: object, place: str) -> str:
    """A name as text; a whole number may be one (`labels: [0, 1]`)."""
    if isinstance(value, bool):
        raise ParamsError(
            f"{place}: found {str(value).lower()}, which is how YAML reads yes, no, on and off; "
            'write it in quotes, such as "yes".'
        )
    if isinstance(value, str | int) and str(value).strip():
        return str(value).strip()
    raise ParamsError(f"{place}: expected a name or a list of names, found {value!r}.")


def _check_name(name: str, place: str) -> None:
    if name in BUILT_IN:
        raise ParamsError(f"{place}: `{name}` is built in; choose another name.")
    if not NAME.fullmatch(name):
        raise ParamsError(f"{place}: a task's name has letters, digits, `_`, `-` and `.` only.")


def _check_columns(task: Task, place: str) -> None:
    if len(task.text_columns) not in (1, 2):
        raise ParamsError(
            f"{place}.text: expected one or two columns, found {list(task.text_columns)}."
        )
    columns = [*task.text_columns, task.label_column]
    columns += [task.id_column] if task.id_column else []
    for column in columns:
        if columns.count(column) > 1:
            raise ParamsError(f"{place}: column `{column}` is named twice among text, label, id.")
    for column in task.text_columns:
        if column in OUR_COLUMNS:
            raise ParamsError(
                f"{place}.text: `{column}` is a column of prepared data; rename the text column."
            )


def _check_labels(task: Task, place: str) -> None:
    if len(task.label_names) == 1 or len(set(task.label_names)) != len(task.label_names):
        raise ParamsError(
            f"{place}.labels: expected two or more different names (none for regression), "
            f"found {list(task.label_names)}."
        )


def _check_metrics(task: Task, place: str) -> None:
    for metric in task.metrics:
        if metric not in METRICS:
            hint = did_you_mean(metric, METRICS)
            raise ParamsError(
                f"{place}.metrics: unknown metric `{metric}`.{hint} Known: {', '.join(METRICS)}."
            )
        if (metric in ("pearson", "spearman")) != task.is_regression:
            kind = "regression (no labels)" if task.is_regression else "classification"
            raise ParamsError(f"{place}.metrics: `{metric}` does not measure {kind}.")
        if metric == "f1" and len(task.label_names) != 2:
            raise ParamsError(f"{place}.metrics: `f1` needs two labels (the second is positive).")
