"""Linear probes: how much of the task each cached layer's [CLS] already knows, by depth.

Alain and Bengio (2016): a linear classifier on frozen vectors. From a cache it takes seconds, and
neither the teacher nor a GPU. Shapes: R rows, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.batches import labels_of
from pipeline.errors import CacheMismatchError
from pipeline.progress import Tick, silent
from pipeline.store.reader import TeacherCache
from pipeline.tasks import Task

HELD_OUT = 5  # every fifth of the drawn training rows scores the probe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """Scores of one layer's probe, by the task's first metric."""

    layer: int
    held_out: float
    """On a fifth of the training rows: what layers are chosen by."""
    validation: float | None
    """On the first validation split; for reading, never for choosing."""


def probe_layers(
    cache: TeacherCache,
    *,
    max_rows: int = 4000,
    seed: int = 0,
    validation: bool = True,
    tick: Tick = silent,
) -> list[LayerProbe]:
    """Fit a probe on every cached layer, one after another; none is kept.

    Args:
        cache: with labels.
        max_rows: training rows to draw; four fifths of them fit the probe.
        seed: of the draw.
        validation: whether to score and to read the validation rows too.
        tick: told of layers.

    Raises:
        CacheMismatchError: fewer labelled training rows than a probe can be made of, or all of one
            class.
    """
    task = Task.from_dict(cache.manifest.task)
    rows, labels = _drawn(cache, max_rows, seed)
    scored = np.arange(len(rows)) % HELD_OUT == 0
    _require_classes(cache, task, labels[~scored])
    split_v = task.validation_splits[0]
    known_v, labels_v = _labelled_rows(cache, split_v if validation else None)
    found = []
    for done, layer in enumerate(cache.manifest.layers):
        tick("probes", done, len(cache.manifest.layers))
        states = _states(cache, "train", layer, rows)
        probe = _fit(task, states[~scored], labels[~scored])
        of_validation = None
        if len(known_v):
            states_v = _states(cache, split_v, layer, known_v)
            of_validation = _score(task, probe, states_v, labels_v)
        held_out = _score(task, probe, states[scored], labels[scored])
        found.append(LayerProbe(layer=layer, held_out=held_out, validation=of_validation))
    tick("probes", len(found), len(found))
    return found


def choose_layers(
    probes: Sequence[LayerProbe], teacher_layers: int, wanted: int
) -> tuple[int, ...]:
    """Teacher layers for the student's layers 1..wanted, at equal steps of what the probes know.

    Layer j of M - 1 gets the first layer whose probe has come j / M of the way from the first
    layer's score to the best one's; so layers are dense where the teacher learns most. Where the
    scores do not rise enough to tell layers apart, neighbours are taken; the last layer never is.

    Args:
        probes: of cached layers, in order.
        teacher_layers: N.
        wanted: M - 1.

    Raises:
        CacheMismatchError: fewer cached layers below the last than are wanted.
    """
    usable = [probe for probe in probes if probe.layer < teacher_layers]
    if len(usable) < wanted:
        raise CacheMismatchError(
            f"Strategy auto: {wanted} layers below the last are needed, {len(usable)} are cached; "
            "rebuild the cache with `pkd-cache build --layers all`."
        )
    risen = np.maximum.accumulate([probe.held_out for probe in probes])[: len(usable)]
    top = max(probe.held_out for probe in probes)
    places: list[int] = []
    for j in range(1, wanted + 1):
        goal = risen[0] + (top - risen[0]) * j / (wanted + 1)
        first = int(np.argmax(risen >= goal)) if (risen >= goal).any() else len(usable) - 1
        lowest, highest = len(places), len(usable) - (wanted - j) - 1
        lowest = max(lowest, places[-1] + 1 if places else 0)
        places.append(min(max(first, lowest), highest))
    return tuple(usable[place].layer for place in places)


def _drawn(cache: TeacherCache, max_rows: int, seed: int) -> tuple[Array, Array]:
    rows, labels = _labelled_rows(cache, "train")
    if len(rows) < 2 * HELD_OUT:
        raise CacheMismatchError(
            f"{cache.text}: {len(rows)} labelled training rows are too few for a probe."
        )
    order = np.random.default_rng(seed).permutation(len(rows))[:max_rows]
    return rows[order], labels[order]


def _require_classes(cache: TeacherCache, task: Task, labels_R: Array) -> None:
    if not task.is_regression and len(np.unique(labels_R)) < 2:
        raise CacheMismatchError(
            f"{cache.text}: the {len(labels_R)} training rows to fit a probe on are all of one "
            "class; there is nothing to tell apart."
        )


def _labelled_rows(cache: TeacherCache, split: str | None) -> tuple[Array, Array]:
    if split not in cache.manifest.splits:
        return np.empty(0, np.int64), np.empty(0)
    labels = labels_of(cache.examples(str(split)))
    known = np.flatnonzero(metrics.labelled(labels))
    return known, labels[known]


def _states(cache: TeacherCache, split: str, layer: int, rows_R: Array) -> Array:
    """(R, H) float32 of some rows in their order; never more than a shard of others beside them."""
    states_RH = np.empty((len(rows_R), cache.manifest.hidden_size), np.float32)
    for shard_rows, stored in cache.shards(split, [layer]):
        here_R = (rows_R >= shard_rows.start) & (rows_R < shard_rows.stop)
        states_RH[here_R] = stored.decode()[rows_R[here_R] - shard_rows.start, 0]
    return states_RH


def _fit(task: Task, states_RH: Array, labels_R: Array) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = Ridge() if task.is_regression else LogisticRegression(C=0.1, max_iter=1000, tol=1e-3)
    return make_pipeline(StandardScaler(), model).fit(states_RH, labels_R)


def _score(task: Task, probe: Any, states_RH: Array, labels_R: Array) -> float:
    predicted = probe.predict(states_RH)
    if task.is_regression:
        logits_RK = predicted[:, None]
    else:
        logits_RK = np.eye(task.num_outputs)[predicted.astype(np.int64)]
    return metrics.score(task, logits_RK, labels_R)[task.metrics[0]]
