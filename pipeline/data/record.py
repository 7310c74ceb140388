"""`data.json`: what prepared data is, where it came from, and the digests of its values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.data.source import Source
from pipeline.data.table import Split, digest_table
from pipeline.digests import digest_json
from pipeline.params import DataParams
from pipeline.tasks import Task

RECORD = "data.json"
FORMAT = 1
DEMO_PARAMS = ("seed", "train_rows", "validation_rows", "test_rows")


def make_record(task: Task, source: Source, params: DataParams) -> dict[str, Any]:
    """The record of prepared data; no clock, host or path in it."""
    splits = {name: _split_record(split, task) for name, split in source.splits.items()}
    return {
        "format": FORMAT,
        "task": task.to_dict(),
        "source": {"kind": source.kind, "name": source.name},
        "params": _used_params(source, params),
        "splits": splits,
        "digest": data_digest(task, {name: each["digest"] for name, each in splits.items()}),
    }


def data_digest(task: Task, split_digests: Mapping[str, str]) -> str:
    """sha256 of the data's identity: values of all splits, and what classes and columns mean."""
    meaning = {key: task.to_dict()[key] for key in ("name", "text_columns", "label_names")}
    return digest_json({"task": meaning, "splits": dict(split_digests)})


def _used_params(source: Source, params: DataParams) -> dict[str, Any]:
    """The parameters that had a say: no seed where nothing was drawn."""
    used = DEMO_PARAMS if source.kind == "demo" else ()
    for name in ("max_train_samples", "max_labelled_samples"):
        if getattr(params, name) is not None:
            used = (*used, name, "seed")
    return {name: getattr(params, name) for name in sorted(set(used))}


def _split_record(split: Split, task: Task) -> dict[str, Any]:
    labels = split.table["label"].drop_null().to_pylist()
    summary = "label_summary" if task.is_regression else "label_histogram"
    return {
        "rows": split.table.num_rows,
        "labelled": len(labels),
        summary: _summary(labels) if task.is_regression else _histogram(labels, task),
        "skipped_rows": split.skipped_rows,
        "empty_texts": split.empty_texts,
        "digest": digest_table(split.table),
    }


def _histogram(labels: list[int], task: Task) -> dict[str, int]:
    return {name: labels.count(place) for place, name in enumerate(task.label_names)}


def _summary(labels: list[float]) -> dict[str, float | None]:
    if not labels:
        return {"mean": None, "min": None, "max": None}
    return {"mean": math.fsum(labels) / len(labels), "min": min(labels), "max": max(labels)}
