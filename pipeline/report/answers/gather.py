"""Collecting the answers of a task's students; what cannot be had becomes a note.

Shapes: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline import metrics
from pipeline.batches import labels_of
from pipeline.errors import DataError, PipelineError
from pipeline.metrics import labelled
from pipeline.report.answers.types import Answers, Array, GroupAnswers
from pipeline.report.records import StudentRun
from pipeline.report.sources import Notes, OpenSources
from pipeline.report.tables import Group
from pipeline.report.tokens import CacheView
from pipeline.student.logits import VALIDATION_LOGITS, read_logits
from pipeline.tasks import Task

PLACE = "answers"
TOLERANCE = 0.005  # of a score: sums of other batches round differently, and a row may turn


def gather_answers(
    groups: Sequence[Group], opened: OpenSources, notes: Notes
) -> tuple[Answers, CacheView] | None:
    """Read every student's validation logits beside its teacher's.

    Students whose cache is of other rows or of another teacher than the first's are left out.

    Returns:
        The answers, and the cache that has the rows; None when no student has any.
    """
    first: CacheView | None = None
    kept: list[GroupAnswers] = []
    base: Answers | None = None
    for group in groups:
        runs, logits = [], []
        for run in group.runs:
            try:
                view = opened.cache(run)
                if base is None:
                    first, base = view, _rows_of(view)
                logits.append(_read(run, view, first or view, base))
                runs.append(run)
            except PipelineError as error:
                notes.leave_out(PLACE, "Left out", run, error)
        if runs:
            of_runs = replace(group, runs=tuple(runs))
            kept.append(GroupAnswers(group=of_runs, logits_SNK=np.stack(logits)))
    if base is None or first is None or not kept:
        return None
    return replace(base, groups=tuple(kept)), first


def _rows_of(view: CacheView) -> Answers:
    examples, logits_NK = view.examples, view.teacher_logits()
    labels = labels_of(examples)
    places_N = np.flatnonzero(labelled(labels))
    if not len(places_N):
        raise DataError(f"{view.split} has no labels in the cache")
    lengths = view.rows().lengths_N.numpy()
    return Answers(
        label_names=tuple(Task.from_dict(view.cache.manifest.task).label_names),
        places_N=places_N,
        labels_N=labels[places_N],
        lengths_N=lengths[places_N],
        teacher_NK=logits_NK[places_N].astype(np.float64),
        groups=(),
    )


def _read(run: StudentRun, view: CacheView, first: CacheView, base: Answers) -> Array:
    """(N, K) float64 logits of the labelled rows; PipelineError where they do not fit."""
    if view.rows_key != first.rows_key:
        raise DataError("its cache is of other rows, or of another teacher, than those here")
    ids, outputs = view.examples["example_id"].to_pylist(), base.teacher_NK.shape[1]
    try:
        every = read_logits(run.folder / VALIDATION_LOGITS, view.split, ids, outputs)
    except DataError as error:
        raise DataError(f"{error}; {_remedy()}") from None
    found = every[base.places_N]
    task = Task.from_dict(view.cache.manifest.task)
    scored = metrics.score(task, found, base.labels_N).get(run.metric)
    if scored is None or abs(scored - run.score) > TOLERANCE:
        told = "nothing" if scored is None else f"{scored:.4f}"
        raise DataError(
            f"{VALIDATION_LOGITS} gives {run.metric} {told}, its record {run.score:.4f}; "
            f"{_remedy()}"
        )
    return found.astype(np.float64)


def _remedy() -> str:
    return f"`pkd-student eval STUDENT --cache CACHE --logits STUDENT/{VALIDATION_LOGITS}` makes it"
