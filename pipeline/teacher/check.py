"""Whether a teacher may be believed: outputs in the task's order, and better than chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.errors import ParamsError, TeacherRefusedError
from pipeline.tasks import Task

Array = np.ndarray[Any, Any]


def output_order(task: Task, teacher_labels: str | None) -> tuple[int, ...] | None:
    """Which teacher output is each class of the task; None = as they are.

    Raises:
        ParamsError: `--teacher-labels` does not name the task's labels, each once.
    """
    if teacher_labels is None:
        return None
    names = [name.strip() for name in teacher_labels.split(",")]
    if sorted(names) != sorted(task.label_names):
        raise ParamsError(
            f"--teacher-labels {teacher_labels}: expected the labels of {task.name} in the order "
            f"of the teacher's outputs, each once: {','.join(task.label_names)}."
        )
    return tuple(names.index(name) for name in task.label_names)


def order_of(teacher: dict[str, Any]) -> tuple[int, ...]:
    """The order of outputs that a manifest's teacher record states."""
    return tuple(int(output) for output in teacher["output_order"])


def require_outputs(name: str, config: Any, task: Task, *, named: bool) -> None:
    """Refuse a teacher with another number of outputs, or with its label names in another order."""
    found = config.num_labels
    if found != task.num_outputs:
        raise TeacherRefusedError(
            f"{name}: has {found} outputs, task {task.name} needs {task.num_outputs}."
        )
    names = tuple(str(config.id2label[index]) for index in range(found))
    folded = [name.lower() for name in names]
    wanted = [name.lower() for name in task.label_names]
    if not named and folded != wanted and sorted(folded) == sorted(wanted):
        in_task_spelling = [task.label_names[wanted.index(name)] for name in folded]
        raise TeacherRefusedError(
            f"{name}: its outputs are {', '.join(names)}, but the labels of {task.name} are "
            f"{', '.join(task.label_names)}; pass --teacher-labels {','.join(in_task_spelling)}."
        )


def require_useful(
    name: str,
    task: Task,
    logits: Array,
    labels: Array,
    split: str,
    given_order: tuple[int, ...] | None = None,
    remedy: str = "Pass",
) -> None:
    """Refuse a teacher whose targets would mislead.

    Args:
        name: of the teacher.
        task: its labels and metrics.
        logits: (rows, outputs) of a labelled validation split, in the task's order.
        labels: (rows,).
        split: its name.
        given_order: which output of the teacher is each class, where that was named.
        remedy: what to do with `--teacher-labels`: not every command has it.

    Raises:
        TeacherRefusedError: its outputs fit the labels better in another order, or it is no better
            than chance.
    """
    if not task.is_regression and (better := better_order(logits, labels.astype(np.int64))):
        order, found, best = better
        given = given_order or range(len(order))
        by_output = {output: task.label_names[k] for output, k in zip(given, order, strict=True)}
        names = ",".join(by_output[output] for output in sorted(by_output))
        raise TeacherRefusedError(
            f"{name}: its outputs seem to be in another order than the labels of {task.name}: "
            f"accuracy on {split} is {found:.3f} as they are, {best:.3f} as {names}. "
            f"{remedy} --teacher-labels {names}, or pass --allow-weak-teacher to keep them as "
            "they are."
        )
    metric, chance = metrics.chance_level(task, labels)
    found = (
        metrics.accuracy(logits, labels)
        if metric == "accuracy"
        else metrics.score(task, logits, labels)[metric]
    )
    if found <= chance:
        raise TeacherRefusedError(
            f"{name}: {metric} on {split} is {found:.3f}, no better than chance ({chance:.3f}); "
            "check that it was fine-tuned on this task, or pass --allow-weak-teacher."
        )


def better_order(logits: Array, labels: Array) -> tuple[tuple[int, ...], float, float] | None:
    """Whether the outputs fit the labels clearly better in another order.

    Returns:
        (class of each output, accuracy as it is, accuracy in that order), or None. "Clearly" means
        more than three standard errors, and better than chance.
    """
    from scipy.optimize import linear_sum_assignment

    classes = logits.shape[1]
    predicted = logits.argmax(-1)
    counts = np.zeros((classes, classes), np.int64)  # output, label
    np.add.at(counts, (predicted, labels), 1)
    outputs, order = linear_sum_assignment(-counts)
    total = len(labels)
    found, best = counts.trace() / total, counts[outputs, order].sum() / total
    margin = 3 * np.sqrt(0.25 / total)
    majority = np.bincount(labels).max() / total
    if best - found > margin and best > majority:
        return tuple(int(k) for k in order), float(found), float(best)
    return None
