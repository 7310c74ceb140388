"""A folder as the source: GLUE's own files, or train/validation/test in a common format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.data.glue import FOLDERS, WITH_BROKEN_ROWS, read_glue
from pipeline.data.lines import read_csv, read_jsonl, read_tsv
from pipeline.data.parquet import read_parquet
from pipeline.data.raw import Raw, Wanted
from pipeline.data.source import Source
from pipeline.data.table import needs_labels, to_split, wanted_columns
from pipeline.errors import DataError
from pipeline.tasks import GLUE_NAMES, Task

READERS: dict[str, Callable[[Path, Wanted], Raw]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}


def read_folder(task: Task, folder: Path) -> Source:
    """Read every split of a folder.

    GLUE's layout is told by its names: `train.tsv` and `dev.tsv` of a GLUE task.

    Raises:
        DataError: no such folder, a split missing or there twice, or bad rows.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --source is `hub` or a folder with your files.")
    files = find_files(task, folder)
    as_glue = _is_glue(task, files)
    splits = {}
    for split, path in files.items():
        raw = read_glue(path, task, split) if as_glue else _read_own(path, task, split)
        published = as_glue and task.name in WITH_BROKEN_ROWS
        splits[split] = to_split(raw, task, split, as_published=published)
    return Source("glue" if as_glue else "files", folder.resolve().name, splits)


def find_files(task: Task, folder: Path) -> dict[str, Path]:
    """The file of each split that is there, in the task's order.

    Raises:
        DataError: a required split is missing, or two files could be the same split.
    """
    files = {}
    for split in task.splits:
        there = [path for path in _candidates(folder, split) if path.is_file()]
        if len(there) > 1:
            names = ", ".join(path.name for path in there)
            raise DataError(f"{folder}: {names} could each be `{split}`; keep one of them.")
        if there:
            files[split] = there[0]
        elif needs_labels(split):
            raise DataError(_missing(task, folder, split))
    return files


def _candidates(folder: Path, split: str) -> list[Path]:
    stems = dict.fromkeys((split, split.replace("validation", "dev")))
    return [folder / f"{stem}{suffix}" for stem in stems for suffix in READERS]


def _missing(task: Task, folder: Path, split: str) -> str:
    stems = " or ".join(dict.fromkeys((split, split.replace("validation", "dev"))))
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    inner = folder / FOLDERS.get(task.name, task.name)
    hint = f" Did you mean --source {inner}?" if inner.is_dir() else ""
    return (
        f"{folder}: no file for `{split}` of task `{task.name}`; expected {stems} with one of "
        f"{', '.join(READERS)}. Found: {found}.{hint}"
    )


def _is_glue(task: Task, files: dict[str, Path]) -> bool:
    names = {files[split].name for split in ("train", *task.validation_splits)}
    expected = {f"{split.replace('validation', 'dev')}.tsv" for split in task.validation_splits}
    return task.name in GLUE_NAMES and names == {"train.tsv", *expected}


def _read_own(path: Path, task: Task, split: str) -> Raw:
    return READERS[path.suffix](path, wanted_columns(task, split))
