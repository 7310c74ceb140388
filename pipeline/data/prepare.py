"""From a source to a folder of prepared data, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.data.folder import read_folder
from pipeline.data.hub import read_hub
from pipeline.data.prepared import is_sound
from pipeline.data.record import RECORD, make_record
from pipeline.data.source import Source
from pipeline.data.table import draw
from pipeline.data.unlabelled import add_unlabelled, hide_labels
from pipeline.existing import must_build
from pipeline.files import building, write_json
from pipeline.locks import locked
from pipeline.params import DataParams
from pipeline.tasks import Task


def prepare(
    task: Task, params: DataParams, out: Path, *, overwrite: bool = False
) -> tuple[dict[str, Any], bool]:
    """Read, check and publish a task's data.

    Args:
        task: what to prepare.
        params: source and draw.
        out: the folder to publish.
        overwrite: replace other data there.

    Returns:
        The record, and whether `out` was written; False when it held the same already.

    Raises:
        DataError: a source that is missing or malformed.
        BusyError: another process is preparing the same folder.
        OutputExistsError: `out` holds something else.
    """
    source = _drawn(task, read_source(task, params), params)
    record = make_record(task, source, params)
    with locked(out):
        if not must_build(out, RECORD, record, overwrite=overwrite) and is_sound(out):
            return record, False
        _write(source, record, out)
    return record, True


def _write(source: Source, record: dict[str, Any], out: Path) -> None:
    with building(out) as folder:
        for name, split in source.splits.items():
            pq.write_table(split.table, folder / f"{name}.parquet", compression="zstd")
        write_json(folder / RECORD, record)


def read_source(task: Task, params: DataParams) -> Source:
    """All rows of the source that the parameters name; the demo's is its grammar."""
    if task.name == "demo":
        from pipeline.data.demo import read_demo

        return read_demo(task, params)
    if params.source == "hub":
        return read_hub(task)
    return read_folder(task, Path(params.source).expanduser())


def _drawn(task: Task, source: Source, params: DataParams) -> Source:
    train = source.splits["train"]
    train = replace(train, table=draw(train.table, params.max_train_samples, params.seed))
    if params.max_labelled_samples is not None:
        train = hide_labels(train, params.max_labelled_samples, params.seed)
    if params.unlabelled:
        train = add_unlabelled(train, task, [each.strip() for each in params.unlabelled.split(",")])
    return replace(source, splits={**source.splits, "train": train})
