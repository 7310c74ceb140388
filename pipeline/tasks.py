"""Tasks: what the columns, labels and metrics of a data set are.

Built in are the demo and the nine GLUE tasks, with the names, columns and label order of the hub
(`nyu-mll/glue`). Any other task is described in `params.yaml` under `tasks.<name>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    metrics: tuple[str, ...] = ("accuracy",)
    """The first one chooses the best checkpoint and stands in tables."""
    validation_splits: tuple[str, ...] = ("validation",)
    """The first one chooses the best checkpoint."""
    id_column: str | None = None
    """Column with unique integer ids; left out: the row's place in its split."""

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
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


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
    if name in BUILT_IN:
        raise ParamsError(f"{place}: `{name}` is built in; choose another name.")
    if not isinstance(content, Mapping):
        raise ParamsError(f"{place}: expected keys and values, found {content!r}.")
    for key in content:
        if key not in OWN_KEYS:
            raise ParamsError(f"{place}: unknown key `{key}`.{did_you_mean(str(key), OWN_KEYS)}")
    labels = tuple(str(label) for label in _names(content.get("labels", []), f"{place}.labels"))
    task = Task(
        name=name,
        text_columns=_names(content.get("text", []), f"{place}.text"),
        label_names=labels,
        label_column=str(content.get("label", "label")),
        metrics=_names(content.get("metrics") or _default_metrics(labels), f"{place}.metrics"),
        id_column=content.get("id"),
    )
    _check_own_task(task, place)
    return task


def _default_metrics(labels: tuple[str, ...]) -> list[str]:
    return ["accuracy"] if labels else ["pearson", "spearman"]


def _names(value: object, place: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence):
        return tuple(str(each) for each in value)
    raise ParamsError(f"{place}: expected a name or a list of names, found {value!r}.")


def _check_own_task(task: Task, place: str) -> None:
    if len(task.text_columns) not in (1, 2):
        raise ParamsError(f"{place}.text: expected one or two columns, found {task.text_columns}.")
    if len(task.label_names) == 1 or len(set(task.label_names)) != len(task.label_names):
        raise ParamsError(
            f"{place}.labels: expected two or more different names (none for regression), "
            f"found {list(task.label_names)}."
        )
    for metric in task.metrics:
        if metric not in METRICS:
            hint = did_you_mean(metric, METRICS)
            raise ParamsError(f"{place}.metrics: unknown metric `{metric}`.{hint}")
        if (metric in ("pearson", "spearman")) != task.is_regression:
            kind = "regression" if task.is_regression else "classification"
            raise ParamsError(f"{place}.metrics: `{metric}` does not measure {kind}.")
        if metric == "f1" and len(task.label_names) != 2:
            raise ParamsError(f"{place}.metrics: `f1` needs two labels (the second is positive).")
