"""Logits and scores of a classifier over token rows, always in float32 and eval mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import metrics
from pipeline.batches import Rows, on_device, sorted_batches
from pipeline.models.running import as_run
from pipeline.tasks import Task
from pipeline.workers import Workers

Array = np.ndarray[Any, Any]


@torch.inference_mode()
def predict(
    model: Any,
    rows: Rows,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
    workers: Workers | None = None,
) -> Array:
    """(N, outputs) float32 logits in the order of the rows.

    Args:
        model: a classifier; its train or eval mode is restored.
        rows: on the model's device.
        batch_size: rows per forward pass.
        on_batch: told how many rows each finished batch had.
        workers: share the batches; all of them get all logits.
    """
    workers = workers or Workers()
    was_training = model.training
    model.eval()
    lengths = rows.lengths_N.cpu()
    logits = np.zeros((len(rows), model.config.num_labels), np.float32)
    batches = sorted_batches(lengths, batch_size)[workers.index :: workers.count]
    found: list[Tensor] = []  # stays on the device, which never waits
    with as_run(model, rows.ids_T.device):
        for batch, rows_B in zip(batches, on_device(batches, rows.ids_T.device), strict=True):
            inputs = rows.batch(rows_B, int(lengths[batch[0]]))
            found.append(model(**inputs).logits.float())
            if on_batch:
                on_batch(len(batch))
    model.train(was_training)
    if found:
        logits[torch.cat(batches).numpy()] = torch.cat(found).cpu().numpy()
    if workers.count > 1:
        together = workers.sum(torch.from_numpy(logits).to(rows.ids_T.device))
        logits = together.cpu().numpy()
    return logits


def score_rows(task: Task, logits: Array, rows: Rows) -> dict[str, float]:
    """The task's metrics over the labelled rows; {} when there are none."""
    known = rows.labelled_N.cpu().numpy()
    if not known.any():
        return {}
    return metrics.score(task, logits[known], rows.labels_N.cpu().numpy()[known])


def evaluate(
    model: Any,
    task: Task,
    splits: Mapping[str, Rows],
    batch_size: int,
    workers: Workers | None = None,
) -> dict[str, dict[str, float]]:
    """Scores by split; the same in all `workers`."""
    return {
        name: score_rows(task, predict(model, rows, batch_size, workers=workers), rows)
        for name, rows in splits.items()
    }
