"""Training rows without labels: distillation needs none; the teacher says what people did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.folder import READERS
from pipeline.data.table import Split, to_split, wanted_columns
from pipeline.errors import DataError
from pipeline.tasks import Task


def add_unlabelled(train: Split, task: Task, files: Sequence[str]) -> Split:
    """Append the rows of files to the training split, with a null label whatever they say.

    Args:
        train: the labelled rows.
        task: names the columns; a label column may be absent.
        files: csv, tsv, jsonl or parquet.

    Raises:
        DataError: a file that is missing, of another kind or malformed; or, with an id column, an
            id that is there twice.
    """
    tables = [train.table]
    for name in files:
        more = _read(Path(name).expanduser(), task)
        tables.append(_numbered(more, task, 1 + _largest_id(tables[-1])))
    table = pa.concat_tables(tables).combine_chunks()
    if (twice := _twice(table["example_id"].to_pylist())) is not None:
        raise DataError(
            f"{', '.join(files)}: id {twice} is there twice; ids must differ from those of the "
            "training rows too."
        )
    return replace(train, table=table)


def _largest_id(table: Any) -> int:
    """Not the number of rows: those that `max_train_samples` draws keep their places as ids."""
    return int(pc.max(table["example_id"]).as_py())


def _twice(ids: Sequence[int]) -> int | None:
    """The first id that stands there again; None where all differ."""
    seen: set[int] = set()
    for each in ids:
        if each in seen:
            return each
        seen.add(each)
    return None


def _read(path: Path, task: Task) -> Any:
    if path.suffix not in READERS:
        raise DataError(f"{path}: --unlabelled takes {', '.join(READERS)} files.")
    if not path.is_file():
        raise DataError(f"{path}: no such file (--unlabelled).")
    raw = READERS[path.suffix](path, wanted_columns(task, "test"))
    columns = {name: values for name, values in raw.columns.items() if name != "label"}
    return to_split(replace(raw, columns=columns), task, "test").table


def _numbered(table: Any, task: Task, start: int) -> Any:
    """With its own ids where the task has an id column, else counted on from `start`."""
    if task.id_column is not None:
        return table
    ids = pa.array(range(start, start + table.num_rows), pa.int64())
    return table.set_column(0, table.schema.field("example_id"), ids)


def hide_labels(train: Split, labelled_rows: int, seed: int) -> Split:
    """Keep the labels of a uniform draw of rows, and hide all others.

    Args:
        train: the training rows.
        labelled_rows: how many keep theirs; all, where there are no more.
        seed: of the draw.
    """
    rows = train.table.num_rows
    if labelled_rows >= rows:
        return train
    kept = np.zeros(rows, bool)
    kept[np.random.default_rng(seed).choice(rows, size=labelled_rows, replace=False)] = True
    place = train.table.schema.get_field_index("label")
    labels = train.table["label"].combine_chunks()
    hidden = pa.array(labels.to_pylist(), labels.type, mask=~kept)
    field = train.table.schema.field("label")
    return replace(train, table=train.table.set_column(place, field, hidden))
