"""Prepared data, read back and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.record import FORMAT, RECORD, data_digest
from pipeline.data.table import digest_table, needs_labels, schema_of
from pipeline.errors import DataError
from pipeline.files import read_json
from pipeline.tasks import Task


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared data.

    Promises: `table` returns the values the record's digests were made of. Does not: keep tables
    in memory, or look for files that the record does not name.
    """

    folder: Path = field(repr=False)
    task: Task
    digest: str
    record: dict[str, Any] = field(repr=False)
    splits: tuple[str, ...]
    """train, the validation splits, then test splits if there are any."""

    def table(self, split: str) -> Any:
        """`pyarrow.Table` of a split: example_id, the text columns, label (null = unlabelled).

        Raises:
            DataError: no such split, or its file is missing or differs from the record.
        """
        if split not in self.splits:
            raise DataError(
                f"{self.folder}: no split `{split}`; there are {', '.join(self.splits)}."
            )
        path = self.folder / f"{split}.parquet"
        table = _read(path)
        expected = schema_of(self.task)
        if not table.schema.equals(expected):
            raise DataError(f"{path}: expected {_in_words(expected)}; found {_in_words(table)}.")
        if digest_table(table) != self.record["splits"][split]["digest"]:
            raise DataError(f"{path}: its rows differ from the digest in {RECORD}.{self._mend()}")
        return table

    def _mend(self) -> str:
        return f" Prepare it again: pkd-data prepare --task {self.task.name} --overwrite"


def load_prepared(folder: Path, task: str | None = None) -> Prepared:
    """Open prepared data; tables are read and checked one by one by `Prepared.table`.

    Args:
        folder: what `pkd-data prepare` wrote.
        task: the task that it must be of; None = any.

    Raises:
        DataError: missing, of another task, or with a record that is malformed.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no prepared data; run `pkd-data prepare --task {task or folder.name}`."
        )
    if not (folder / RECORD).is_file():
        raise DataError(f"{folder}: no {RECORD}, so this is no folder of `pkd-data prepare`.")
    prepared = _parse(folder, read_json(folder / RECORD))
    if task is not None and prepared.task.name != task:
        raise DataError(
            f"{folder}: expected data of task `{task}`, found `{prepared.task.name}`; "
            f"run `pkd-data prepare --task {task}`, or name the folder by --data."
        )
    return prepared


def is_sound(folder: Path) -> bool:
    """Whether every table of a folder is there and agrees with the record."""
    try:
        prepared = load_prepared(folder)
        for split in prepared.splits:
            prepared.table(split)
    except DataError:
        return False
    return True


def _parse(folder: Path, record: Any) -> Prepared:
    path = folder / RECORD
    if isinstance(record, Mapping) and record.get("format") != FORMAT:
        raise DataError(
            f"{path}: format {record.get('format')!r}, but this version reads format {FORMAT}."
        )
    try:
        task = Task.from_dict(record["task"])
        digests = {split: record["splits"][split]["digest"] for split in record["splits"]}
        splits = tuple(split for split in task.splits if split in digests)
        digest = data_digest(task, digests)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: malformed ({type(error).__name__}: {error}).{_again(folder)}"
        ) from None
    required = {split for split in task.splits if needs_labels(split)}
    if set(digests) - set(splits) or required - set(splits) or record.get("digest") != digest:
        raise DataError(f"{path}: its digest does not fit its content; was it edited?")
    return Prepared(folder, task, digest, dict(record), splits)


def _again(folder: Path) -> str:
    return f" Prepare it again: pkd-data prepare --task {folder.name} --overwrite"


def _read(path: Path) -> Any:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, but {RECORD} names it.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet ({error}).") from None


def _in_words(table: Any) -> str:
    """Columns and types of a table or schema."""
    schema = getattr(table, "schema", table)
    return ", ".join(f"{each.name} {each.type}" for each in schema)
