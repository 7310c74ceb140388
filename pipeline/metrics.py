"""The GLUE metrics, by scikit-learn and scipy, from logits and labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline.tasks import Task

Array = np.ndarray[Any, Any]


def score(task: Task, logits: Array, labels: Array) -> dict[str, float]:
    """Compute a task's metrics over labelled rows.

    Args:
        task: names the metrics.
        logits: (rows, outputs).
        labels: (rows,) class indices, or numbers for regression; no row unlabelled.

    Returns:
        Metric name to value in [-1, 1]; a correlation of constant predictions is 0.0.
    """
    predictions = logits[:, 0] if task.is_regression else logits.argmax(-1)
    return {name: _one(name, labels, predictions) for name in task.metrics}


def labelled(labels: Array) -> Array:
    """(rows,) bool: rows with a label; `pipeline.batches.labels_of` says how none is written."""
    return labels != -100 if labels.dtype == np.int64 else ~np.isnan(labels)


def chance_level(task: Task, labels: Array) -> tuple[str, float]:
    """What a teacher must beat: the metric's name, and its value for a teacher that knows nothing.

    Accuracy of the majority class; 0 for correlations (Matthews, Pearson).
    """
    if task.metrics[0] in ("matthews", "pearson", "spearman"):
        return task.metrics[0], 0.0
    return "accuracy", float(np.bincount(labels.astype(np.int64)).max() / len(labels))


def accuracy(logits: Array, labels: Array) -> float:
    """Share of rows whose largest logit is at the label."""
    return float((logits.argmax(-1) == labels).mean())


def _one(name: str, labels: Array, predictions: Array) -> float:
    if name == "accuracy":
        return float((predictions == labels).mean())
    if name in ("pearson", "spearman") and len(labels) < 2:
        return 0.0  # scipy refuses to correlate a single row
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about constant inputs, which score 0.0 here
        value = _formula(name)(labels, predictions)
    return 0.0 if np.isnan(value) else float(value)


def _formula(name: str) -> Callable[[Array, Array], Any]:
    """The library's function of (labels, predictions)."""
    from scipy import stats
    from sklearn import metrics as sk

    formulas: dict[str, Callable[[Array, Array], Any]] = {
        "f1": partial(sk.f1_score, zero_division=0.0),
        "matthews": sk.matthews_corrcoef,
        "pearson": lambda labels, predictions: stats.pearsonr(predictions, labels)[0],
        "spearman": lambda labels, predictions: stats.spearmanr(predictions, labels)[0],
    }
    return formulas[name]
