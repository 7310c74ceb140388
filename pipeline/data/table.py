"""Raw rows and a task -> a typed, checked Arrow table; its digest over decoded values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.labels import parse_labels
from pipeline.data.raw import Raw, Wanted
from pipeline.digests import digest_array, digest_json
from pipeline.errors import DataError
from pipeline.tasks import Task

INT64_END = 1 << 63


@dataclass(frozen=True)
class Split:
    """One split, ready to be written."""

    table: Any
    """`pyarrow.Table` with the columns of `schema_of`."""
    skipped_rows: int = 0
    """Broken rows of published data that were left out."""
    empty_texts: int = 0
    """Texts of published data that are empty, and kept."""


def schema_of(task: Task) -> Any:
    """`pyarrow.Schema` of prepared data; a null label is an unlabelled row."""
    label = pa.float64() if task.is_regression else pa.int64()
    texts = [pa.field(name, pa.string(), nullable=False) for name in task.text_columns]
    return pa.schema(
        [pa.field("example_id", pa.int64(), nullable=False), *texts, pa.field("label", label)]
    )


def wanted_columns(task: Task, split: str, aliases: dict[str, str] | None = None) -> Wanted:
    """The columns to read for a split; a test split may lack labels.

    Args:
        task: names the columns.
        split: its name; "test..." may be unlabelled.
        aliases: our name -> another name that the source may use.
    """
    columns = {column: column for column in task.text_columns} | {"label": task.label_column}
    if task.id_column is not None:
        columns["example_id"] = task.id_column
    other = aliases or {}
    names = {o: (name, other[o]) if o in other else (name,) for o, name in columns.items()}
    return Wanted(names, optional=frozenset() if needs_labels(split) else frozenset({"label"}))


def needs_labels(split: str) -> bool:
    """Whether every row of a split must be labelled."""
    return not split.startswith("test")


def to_split(raw: Raw, task: Task, split: str, *, as_published: bool = False) -> Split:
    """Check and type the rows of a split.

    Args:
        raw: rows as read with `wanted_columns`.
        task: names columns and labels.
        split: decides whether labels are required.
        as_published: keep empty texts, and count them: nobody can mend public data.

    Raises:
        DataError: no rows, an empty or missing text, an unknown label, an id that is no whole
            number or is there twice; names the file and line.
    """
    if not len(raw):
        raise DataError(f"{raw.file}: no rows.")
    empty = [_check_texts(raw, name, as_published) for name in task.text_columns]
    labels = parse_labels(raw, task, required=needs_labels(split))
    ids = _ids(raw, task) if task.id_column is not None else range(len(raw))
    schema = schema_of(task)
    columns = [ids, *(raw.columns[name] for name in task.text_columns), labels]
    arrays = [pa.array(values, each.type) for values, each in zip(columns, schema, strict=True)]
    return Split(pa.table(arrays, schema=schema), raw.skipped, sum(empty))


def draw(table: Any, rows: int | None, seed: int) -> Any:
    """A uniform draw of `rows` rows in the order of the file; all of them if there are no more."""
    if rows is None or rows >= table.num_rows:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, size=rows, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def digest_table(table: Any) -> str:
    """sha256 over names, types and decoded values; independent of chunks and of the file format."""
    columns = {name: _digest_column(table[name]) for name in table.column_names}
    return digest_json({"rows": table.num_rows, "columns": columns})


def _check_texts(raw: Raw, column: str, as_published: bool) -> int:
    """Refuse values that are no text; count empty ones, or refuse them too."""
    empty = 0
    for row, text in enumerate(raw.columns[column]):
        if problem := text_problem(text, may_be_empty=as_published):
            raise DataError(f"{raw.place(row)}: `{column}`: {problem}")
        empty += not text or text.isspace()
    return empty


def text_problem(text: Any, *, may_be_empty: bool = False) -> str | None:
    """Say what is wrong with a value that should be a text; None when nothing is."""
    if not isinstance(text, str) or not _is_unicode(text):
        return f"expected text, found {'nothing' if text is None else repr(text)}."
    if not may_be_empty and (not text or text.isspace()):
        return "expected text, found none."
    return None


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can spell half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ids(raw: Raw, task: Task) -> list[int]:
    """Unique whole numbers of the id column."""
    first_row: dict[int, int] = {}
    for row, value in enumerate(raw.columns["example_id"]):
        number = _whole_number(value)
        if number is None:
            raise DataError(
                f"{raw.place(row)}: id column `{task.id_column}`: expected a whole number, "
                f"found {value!r}."
            )
        if number in first_row:
            raise DataError(
                f"{raw.place(row)}: id column `{task.id_column}`: {number} is also the id of "
                f"{raw.unit} {raw.numbers[first_row[number]]}; ids must differ within a split."
            )
        first_row[number] = row
    return list(first_row)


def _whole_number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    return number if -INT64_END <= number < INT64_END else None


def _digest_column(column: Any) -> str:
    if pa.types.is_string(column.type):
        return _digest_strings(column)
    valid = column.is_valid().to_numpy()
    values = digest_array(column.fill_null(0).to_numpy())
    return digest_json({"values": values, "valid": digest_array(valid)})


def _digest_strings(column: Any) -> str:
    """sha256 over all lengths in bytes, then all bytes."""
    lengths = pc.binary_length(column).fill_null(-1).to_numpy().astype(np.int64)
    digest = hashlib.sha256(digest_array(lengths).encode())
    for chunk in column.chunks:
        for piece in _bytes_of(chunk):
            digest.update(piece)
    return digest.hexdigest()


def _bytes_of(chunk: Any) -> Sequence[memoryview]:
    """The bytes of an Arrow string array, without the slack of its buffers."""
    _, offsets, data = chunk.buffers()
    if data is None:
        return ()
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return (memoryview(data)[ends[0] : ends[-1]],)
