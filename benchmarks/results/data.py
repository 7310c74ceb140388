"""Training rows of an experiment: which have labels, and which are held out to choose settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 0

Table = Any


def labelled_and_not(train: Table, rows: int | None, labelled: int | None) -> tuple[Table, Table]:
    """Draw the rows that there are, and those of them that keep their labels.

    Args:
        train: prepared training rows.
        rows: how many there are; None = all.
        labelled: how many of these keep their labels; None = all.

    Returns:
        Labelled rows, and the others without the column `label`.
    """
    order = np.random.default_rng(SEED).permutation(train.num_rows)[:rows]
    cut = len(order) if labelled is None else labelled
    table = train.drop_columns(["example_id"])
    return table.take(np.sort(order[:cut])), table.take(np.sort(order[cut:])).drop_columns("label")


def without_held_out(labelled: Table, every: int) -> tuple[Table, Table]:
    """Four fifths to train on and the fifth that settings are chosen on, for `every` = 5."""
    order = np.random.default_rng(SEED).permutation(labelled.num_rows)
    held_out = np.zeros(labelled.num_rows, bool)
    held_out[order[::every]] = True
    return labelled.filter(pa.array(~held_out)), labelled.filter(pa.array(held_out))


def write_source(folder: Path, train: Table, validation: Table, unlabelled: Table) -> None:
    """Files as a team would have them, for `pkd-data prepare --source --unlabelled`."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"train": train, "validation": validation, "unlabelled": unlabelled}
    for name, table in named.items():
        if "example_id" in table.column_names:
            table = table.drop_columns("example_id")
        if table.num_rows:
            pq.write_table(table, folder / f"{name}.parquet")
