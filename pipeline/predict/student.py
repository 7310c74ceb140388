"""A student as its folder describes it: its outputs, the columns it reads, its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data.glue import ALIASES, COLA_HEADER
from pipeline.errors import ModelError, ParamsError
from pipeline.predict.rows import Columns
from pipeline.tasks import BUILT_IN, GLUE_NAMES, find_task


@dataclass(frozen=True, kw_only=True)
class Described:
    """What there is to know of a classifier before its weights are loaded."""

    name: str
    """Folder or hub id."""
    task: str | None
    """None without a record."""
    labels: tuple[str, ...]
    """Names in the order of the outputs; () for regression."""
    columns: Columns
    max_length: int
    """Tokens."""


def describe_student(
    name: str,
    own_tasks: Mapping[str, Any],
    *,
    text_columns: Sequence[str] = (),
    keep: Sequence[str] = (),
    max_length: int | None = None,
) -> Described:
    """Read a student's configuration and record.

    Args:
        name: a folder of `pkd-student fit` or `pkd-teacher fit`, or any fine-tuned classifier.
        own_tasks: the `tasks` section of `params.yaml`, for a record that names a task alone.
        text_columns: one or two columns to read instead of the task's.
        keep: columns of the input that go into the output.
        max_length: tokens; None = the record's.

    Raises:
        ModelError: not found, or no classifier of one label.
        ParamsError: the columns are not known, or of another number than the student reads.
    """
    from pipeline.models.inputs import require_length
    from pipeline.models.load import load_config
    from pipeline.models.trained import record_of, trained_length

    config = load_config(name)
    record = record_of(name)
    length = max_length or trained_length(record, config)
    require_length(length, config, name)
    columns = _columns(name, record, own_tasks, text_columns)
    return Described(
        name=name,
        task=record.get("task"),
        labels=_labels(config, name),
        columns=replace(columns, kept=tuple(keep)),
        max_length=length,
    )


def _labels(config: Any, name: str) -> tuple[str, ...]:
    if config.problem_type == "multi_label_classification":
        raise ModelError(f"{name}: gives several labels to a row; pkd predicts one.")
    if config.num_labels == 1:
        return ()
    return tuple(str(config.id2label[place]) for place in range(config.num_labels))


def _columns(
    name: str, record: Mapping[str, Any], own_tasks: Mapping[str, Any], chosen: Sequence[str]
) -> Columns:
    known = _known_columns(record, own_tasks)
    if not known and not chosen:
        raise ParamsError(
            f"{name}: no record says which columns it reads; name one or two with --text-columns."
        )
    if len(chosen) > 2 or (chosen and known and len(chosen) != len(known)):
        wanted = f"{len(known)} ({', '.join(known)})" if known else "one or two"
        raise ParamsError(
            f"--text-columns {','.join(chosen)}: expected {wanted} columns, found {len(chosen)}."
        )
    if chosen:
        return Columns(texts=tuple((each,) for each in chosen))
    task = str(record["task"])
    if task not in GLUE_NAMES:
        return Columns(texts=tuple((each,) for each in known))
    aliases = ALIASES.get(task, {})
    texts = tuple((each, aliases[each]) if each in aliases else (each,) for each in known)
    return Columns(texts=texts, header=COLA_HEADER if task == "cola" else ())


def _known_columns(record: Mapping[str, Any], own_tasks: Mapping[str, Any]) -> tuple[str, ...]:
    """The record's; of an older record, those of the task that it names."""
    if "text_columns" in record:
        return tuple(record["text_columns"])
    task = record.get("task")
    if task in BUILT_IN or task in own_tasks:
        return find_task(str(task), own_tasks).text_columns
    return ()
