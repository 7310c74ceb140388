"""PTP of Pea-KD: pretraining a student on how sure and how right its teacher is of each row.

Cho and Kang 2020, section 3.3: every training row has one of four labels, whether the teacher
classifies it correctly and whether its largest probability is above a threshold. The student first
learns these; its encoder and pooler are then where distillation starts, with a new head.

Shapes: N rows, K classes of the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.batches import UNLABELLED_CLASS, Rows
from pipeline.errors import ParamsError
from pipeline.losses import hard_label_loss
from pipeline.models.running import as_trained
from pipeline.params import StudentParams
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.tasks import Task
from pipeline.training.checkpoints import has_checkpoint
from pipeline.training.evaluate import evaluate
from pipeline.training.loop import StepLog, train
from pipeline.workers import Workers

Array = np.ndarray[Any, Any]
Thresholds = tuple[float, float]
"""(of correct rows, of wrong rows): above it the teacher is confident."""

LABELS = {
    "ptp": ("correct, confident", "correct, unsure", "wrong, confident", "wrong, unsure"),
    "ptp1": ("correct", "wrong"),
    "ptp2": ("confident", "unsure"),
}
NEARLY_EMPTY = 0.02  # share of the labelled rows


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learned before distillation."""

    kind: str
    """A key of `LABELS`."""
    thresholds: Thresholds
    train: Rows
    """The training rows with PTP labels."""
    splits: Mapping[str, Rows]
    """The validation rows with PTP labels."""
    teacher_accuracy: float
    """On the labelled training rows, in [0, 1]."""
    out_of_fold: bool
    """Whether the labels are those of teachers that had not seen the rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, by class."""
        return LABELS[self.kind]

    @property
    def histogram(self) -> dict[str, int]:
        """Training rows of each label."""
        counts = torch.bincount(
            self.train.labels_N[self.train.labelled_N], minlength=len(self.names)
        )
        return dict(zip(self.names, counts.tolist(), strict=True))

    @property
    def warning(self) -> str | None:
        """Of labels that hardly any row has; None when there are none."""
        counts = self.histogram
        total = sum(counts.values())
        if not (rare := [name for name, rows in counts.items() if rows < NEARLY_EMPTY * total]):
            return None
        text = ", ".join(f"`{name}` {counts[name]:,}" for name in rare)
        whose = (
            "its folds are right on {:.1%} of the rows that they had not seen"
            if self.out_of_fold
            else "the teacher is right on {:.1%} of the rows that it was itself trained on"
        ).format(self.teacher_accuracy)
        return (
            f"of {total:,} training rows hardly any have the label {text}: {whose}, so these "
            "labels teach next to nothing."
            + ("" if self.out_of_fold else " `pkd-teacher fit --folds 5` is the cure.")
        )


def require_lesson(manifest: Manifest, params: StudentParams, where: str) -> None:
    """Refuse PTP where it has no meaning; raises ParamsError."""
    if params.pretrain == "none":
        return
    if manifest.outputs == 1:
        raise ParamsError(f"--pretrain {params.pretrain}: needs classes; this is a regression.")
    if not manifest.splits["train"].labelled_rows:
        raise ParamsError(
            f"--pretrain {params.pretrain}: whether the teacher is right takes labels, and no "
            f"training row of {where} has one."
        )
    parse_thresholds(params.ptp_thresholds)


def parse_thresholds(text: str) -> Thresholds | None:
    """Read `median` as None, `0.8` as one threshold for all rows, `0.8,0.6` as correct and wrong.

    Raises:
        ParamsError: anything else, or a number outside of (0, 1).
    """
    if text == "median":
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < 1 for value in values):
        raise ParamsError(
            f"--ptp-thresholds {text}: expected `median`, one number between 0 and 1 (the paper), "
            "or two, of correct and of wrong rows, such as 0.8,0.6 (the authors' code)."
        )
    return values[0], values[-1]


def make_lesson(
    cache: TeacherCache, params: StudentParams, rows: Rows, splits: Mapping[str, Rows]
) -> Lesson:
    """Label every row by the teacher's logits.

    Args:
        cache: holds them.
        params: kind and thresholds; see `require_lesson`.
        rows: the training rows, in the order of the cache.
        splits: the validation rows by split; thresholds come from the training rows alone.
    """
    unseen = cache.has_out_of_fold("train")
    logits_NK = cache.out_of_fold("train") if unseen else cache.logits("train")
    labels_N = rows.labels_N.cpu().numpy()
    kind = params.pretrain
    thresholds = parse_thresholds(params.ptp_thresholds) or median_thresholds(logits_NK, labels_N)

    def relabelled(logits: Array, of: Rows) -> Rows:
        found_N = ptp_labels(logits, of.labels_N.cpu().numpy(), thresholds, kind)
        return replace(of, labels_N=torch.from_numpy(found_N).to(of.labels_N.device))

    known = labels_N != UNLABELLED_CLASS
    return Lesson(
        kind=kind,
        thresholds=thresholds,
        train=relabelled(logits_NK, rows),
        splits={name: relabelled(cache.logits(name), of) for name, of in splits.items()},
        teacher_accuracy=float((logits_NK.argmax(-1) == labels_N)[known].mean()),
        out_of_fold=unseen,
    )


def confidence(logits_NK: Array) -> Array:
    """(N,) float64: the largest probability of each row, at temperature 1.

    In float64, in which the probabilities of a sure teacher do not all round to 1.
    """
    powers_NK = np.exp(logits_NK.astype(np.float64) - logits_NK.max(-1, keepdims=True))
    return np.asarray(1.0 / powers_NK.sum(-1))


def median_thresholds(logits_NK: Array, labels_N: Array) -> Thresholds:
    """The median confidence of the correct and of the wrong rows, as in the authors' code.

    Where either has no rows, the other's stands for both.
    """
    sure_N, right_N = confidence(logits_NK), logits_NK.argmax(-1) == labels_N
    wrong_N = ~right_N & (labels_N != UNLABELLED_CLASS)
    medians = [float(np.median(sure_N[of])) for of in (right_N, wrong_N) if of.any()]
    return medians[0], medians[-1]


def ptp_labels(logits_NK: Array, labels_N: Array, thresholds: Thresholds, kind: str) -> Array:
    """The label of each row (Cho and Kang 2020, table 1).

    Args:
        logits_NK: the teacher's.
        labels_N: (N,) int64, UNLABELLED_CLASS where there is none.
        thresholds: confident means strictly above, as in the authors' code; the paper has one
            threshold, the code one for correct and one for wrong rows.
        kind: "ptp": 0 = correct and confident, 1 = correct and not, 2 = wrong and confident,
            3 = wrong and not; "ptp1": 0 = correct, 1 = wrong; "ptp2": 0 = confident, 1 = not.

    Returns:
        (N,) int64; UNLABELLED_CLASS for rows without a label.
    """
    wrong_N = logits_NK.argmax(-1) != labels_N
    unsure_N = ~(confidence(logits_NK) > np.where(wrong_N, thresholds[1], thresholds[0]))
    found_N = {"ptp": 2 * wrong_N + unsure_N, "ptp1": 1 * wrong_N, "ptp2": 1 * unsure_N}[kind]
    return np.where(labels_N == UNLABELLED_CLASS, UNLABELLED_CLASS, found_N).astype(np.int64)


def task_of(kind: str, task: Task) -> Task:
    """The task that PTP trains: its labels, judged by accuracy on the task's validation splits."""
    return replace(task, label_names=LABELS[kind], metrics=("accuracy",))


def pretrain(
    model: Any,
    lesson: Lesson,
    task: Task,
    params: StudentParams,
    state: Path,
    *,
    device: torch.device,
    on_step: Callable[[StepLog], None],
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Train `model` on a lesson, in place; goes on from a checkpoint in `state` if there is one.

    It is left with the weights of the epoch that was best on the validation rows, with
    `--keep last` those of the last one. A lesson that was finished already is not learned again:
    its weights are loaded.

    Args:
        model: a student with a head for the labels of the lesson.
        lesson: from `make_lesson`.
        task: from `task_of`.
        params: all but the epochs are those of the distillation.
        state: folder of the checkpoint.
        device: where to train.
        on_step: told of steps.
        workers: see `pipeline.training.loop.train`.

    Returns:
        What `run.json` records of it.

    Raises:
        TrainingError: see `pipeline.training.loop.train`.
    """

    def terms(inputs: dict[str, Any], _: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        return {"ce": hard_label_loss(model(**inputs).logits, labels_B)}

    with as_trained(model, params, device):
        progress = train(
            model,
            lesson.train,
            terms,
            lambda: evaluate(model, task, lesson.splits, params.eval_batch_size, workers),
            replace(params, epochs=params.pretrain_epochs),
            state,
            device=device,
            resume=has_checkpoint(state),
            on_step=on_step,
            on_epoch=lambda _: None,
            workers=workers,
        )
    return {
        "kind": lesson.kind,
        "thresholds": {"correct": lesson.thresholds[0], "wrong": lesson.thresholds[1]},
        "labels": lesson.histogram,
        "teacher_accuracy": lesson.teacher_accuracy,
        "out_of_fold": lesson.out_of_fold,
        "epochs": params.pretrain_epochs,
        "best_epoch": progress.best_epoch,
        "scores": progress.history[progress.best_epoch - 1]["scores"],
        "history": progress.history,
        "seconds": progress.seconds,
    }


def take_over(student: Any, pretrained: Any) -> None:
    """Give a student the encoder and, where it has one, pooler of a pretrained one; no head."""
    student.base_model.load_state_dict(pretrained.base_model.state_dict())
