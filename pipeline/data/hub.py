"""The GLUE tasks from the Hugging Face hub, or from a local copy of its repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.data.parquet import from_arrow
from pipeline.data.source import Source
from pipeline.data.table import Split, to_split, wanted_columns
from pipeline.errors import DataError
from pipeline.tasks import GLUE_NAMES, Task

REPOSITORY = "nyu-mll/glue"
PROBE_SECONDS = 10.0  # for one small answer from the hub, before its library starts to retry


def read_hub(task: Task, repository: str = REPOSITORY) -> Source:
    """Download (or take from the local copy of an earlier download) all splits of a GLUE task.

    Args:
        task: a GLUE task.
        repository: hub id, or a folder with the same layout.

    Raises:
        DataError: not a GLUE task, not to be had, or not what the task describes.
    """
    if task.name not in GLUE_NAMES:
        raise DataError(
            f"Task `{task.name}` is your own, so it is not on the hub: name the folder with its "
            f"files by --source DIR, or as `source` in params.yaml under data.tasks.{task.name}."
        )
    data = _load(task, repository)
    splits = {split: _read(data[split], task, split, repository) for split in task.splits}
    return Source("hub", Path(repository).name if _is_local(repository) else repository, splits)


def _load(task: Task, repository: str) -> Any:
    import datasets

    offline = not _is_local(repository) and not _reachable(repository)
    try:
        with _quiet(), _offline(offline):
            data = datasets.load_dataset(repository, task.name)
    except Exception as error:  # noqa: BLE001 - any library below may fail, each in its own way
        reason = " ".join(str(error).split()) or type(error).__name__
        if offline:
            reason = "it does not answer, and no earlier download of the task is on this machine"
        raise DataError(
            f"Task `{task.name}` could not be had from the hub ({repository}): {reason}.\n"
            "With the data in a folder (GLUE's own train.tsv and dev.tsv, or csv, jsonl, parquet): "
            f"pkd-data prepare --task {task.name} --source DIR"
        ) from None
    missing = [split for split in task.splits if split not in data]
    if missing:
        raise DataError(f"{repository}, {task.name}: no split {', '.join(missing)}.")
    return data


def _read(data: Any, task: Task, split: str, repository: str) -> Split:
    place = f"{repository}, {task.name}, {split}"
    _check_labels(data.features, task, place)
    chosen = wanted_columns(task, split).find(data.column_names, place)
    raw = from_arrow(data.with_format("arrow")[:], chosen, place)
    return to_split(raw, task, split, as_published=True)


def _check_labels(features: Any, task: Task, place: str) -> None:
    """Class indices mean the hub's names in the hub's order; they must be ours."""
    names = getattr(features.get(task.label_column), "names", None)
    if task.label_names and names != list(task.label_names):
        raise DataError(
            f"{place}: expected the labels {list(task.label_names)} in this order, found {names}."
        )


def _is_local(repository: str) -> bool:
    return Path(repository).is_dir()


def _reachable(repository: str) -> bool:
    """Ask once, so that no network costs seconds; the library alone retries for half a minute."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(repository, timeout=PROBE_SECONDS)
    except Exception as error:  # noqa: BLE001 - see _load; an answer, even a refusal, is one
        return getattr(error, "response", None) is not None
    return True


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Let `datasets` use only what was downloaded before."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets`: the commands have their own voice."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
