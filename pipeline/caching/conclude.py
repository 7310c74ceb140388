"""The end of a build: what the teacher's outputs are worth, and the manifest. No teacher needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.caching.exactness import summarize
from pipeline.params import CacheParams
from pipeline.store.manifest import Manifest
from pipeline.store.writer import CacheWriter
from pipeline.tasks import Task
from pipeline.teacher.check import order_of, require_useful

Array = np.ndarray[Any, Any]


def conclude(
    writer: CacheWriter,
    task: Task,
    described: dict[str, Any],
    labels: dict[str, Array],
    params: CacheParams,
    remedy: str = "Pass",
) -> Manifest:
    """Score the teacher on every labelled split and publish the cache.

    Args:
        writer: holds the finished shards of all splits.
        task: of the cache.
        described: the manifest's fields that were known before; see
            `pipeline.caching.plan.plan_build`.
        labels: (rows,) of each split, as `pipeline.batches.labels_of` makes them.
        params: of the build; `allow_weak_teacher` counts.
        remedy: how the command that runs is given `--teacher-labels`, for an error.

    Raises:
        CacheError: a shard is missing.
        TeacherRefusedError: see `require_useful`.
    """
    writer.require_complete()
    teacher, scores, agreement = described["teacher"], {}, {}
    for split, labels_N in labels.items():
        weak = params.allow_weak_teacher or split not in task.validation_splits
        logits = writer.files.logits(split)
        order = order_of(teacher)
        name = teacher["name"]
        found = score_split(
            task, split, logits, labels_N, name, order, allow_weak=weak, remedy=remedy
        )
        if found:
            scores[split] = found
            if not task.is_regression:
                known = metrics.labelled(labels_N)
                agreement[split] = metrics.accuracy(logits[known], labels_N[known])
    for split in writer.plan.layout.out_of_fold:
        known = metrics.labelled(labels[split])
        if known.any() and not task.is_regression:
            found_logits = writer.files.out_of_fold(split)[known]
            agreement[f"{split}, out of fold"] = metrics.accuracy(
                found_logits, labels[split][known]
            )
    errors = [record["errors"] for record in writer.all_records() if record["errors"]]
    complete = described | {
        "teacher": teacher | {"scores": scores, "agreement": agreement},
        "measured_error": summarize(errors, writer.plan.layout.layers),
    }
    return writer.finish(complete)


def score_split(
    task: Task,
    split: str,
    logits: Array,
    labels: Array,
    teacher_name: str,
    order: tuple[int, ...],
    *,
    allow_weak: bool,
    remedy: str = "Pass",
) -> dict[str, float]:
    """The task's metrics over the labelled rows; {} when there are none.

    Raises:
        TeacherRefusedError: see `require_useful`; not with `allow_weak`.
    """
    known = metrics.labelled(labels)
    if not known.any():
        return {}
    if not allow_weak:
        require_useful(teacher_name, task, logits[known], labels[known], split, order, remedy)
    return metrics.score(task, logits[known], labels[known])
