"""Reading run records: every field is checked here once, and what does not pass is named.

Records come from folders that anyone may have put there: a folder that is no readable run is named
with the reason, never fatal. Reasons hold no path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.files import read_json
from pipeline.report.fields import (
    count,
    main_split,
    mapping,
    number,
    optional_count,
    optional_number,
    pairs,
    read_scores,
    text,
)
from pipeline.report.records import (
    CacheBuild,
    Epoch,
    Skipped,
    StudentRun,
    TeacherOf,
    TeacherRun,
)

STUDENT_RECORD = "run.json"
TEACHER_RECORD = "teacher.json"
FORMAT = 1


def load_students(folder: Path) -> tuple[list[StudentRun], list[Skipped]]:
    """Read every run below `folder`, by name; hidden entries (unfinished runs) are passed over.

    Returns:
        The runs, and the folders that are none, with the reason.
    """
    runs, skipped = [], []
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    for child in (each for each in children if each.is_dir() and not each.name.startswith(".")):
        try:
            runs.append(parse_student(_record(child / STUDENT_RECORD, "student"), child))
        except DataError as error:
            skipped.append(Skipped(name=child.name, reason=str(error)))
    return runs, skipped


def load_teacher(folder: Path) -> TeacherRun:
    """Read a teacher folder; raises DataError that says what is wrong, without a path."""
    record = _record(folder / TEACHER_RECORD, "teacher")
    return TeacherRun(
        folder=folder,
        scores=read_scores(record.get("scores") or {}, "scores"),
        parameters=count(record, "parameters"),
        size_bytes=count(record, "size_bytes"),
    )


def load_cache_build(path: Path) -> CacheBuild:
    """Read a cache's metrics; raises DataError that says what is wrong, without a path."""
    record = read_record(path)
    return CacheBuild(
        seconds=number(record, "seconds"),
        train_pass_seconds=_whole_pass(record),
        rows_per_second=optional_number(record, "rows_per_second"),
        size_bytes=optional_count(record, "size_bytes"),
        device=text(record, "device"),
    )


def parse_student(record: Mapping[str, Any], folder: Path) -> StudentRun:
    """Check a student's record and keep what the report uses; raises DataError naming the field."""
    scores = read_scores(record.get("scores") or {}, "scores")
    metric = text(record, "metric")
    split = main_split(scores)
    if metric not in scores.get(split, {}):
        raise DataError(f"no `{metric}` in its scores")
    cache = mapping(record, "cache")
    return StudentRun(
        folder=folder,
        name=folder.name,
        task=text(record, "task"),
        strategy=text(record, "strategy"),
        depth=count(record, "student_layers"),
        block_passes=optional_count(record, "block_passes") or count(record, "student_layers"),
        seed=count(record, "seed"),
        metric=metric,
        split=split,
        scores=scores,
        layer_map=pairs(record.get("layer_map") or [], "layer_map"),
        teacher_layers=count(record, "teacher_layers"),
        teacher=_teacher_of(mapping(record, "teacher")),
        cache_name=text(cache, "name"),
        cache_id=text(cache, "cache_id"),
        settings=_settings(record),
        history=tuple(_epoch(each) for each in record.get("history") or []),
        train_rows=optional_count(record, "train_rows"),
        labelled_rows=optional_count(record, "labelled_rows"),
        parameters=count(record, "parameters"),
        size_bytes=count(record, "size_bytes"),
        seconds=number(record, "seconds") + _pretraining_seconds(record.get("pretrain")),
        device=text(record, "device"),
        record=record,
    )


def _pretraining_seconds(record: Any) -> float:
    return number(record, "seconds") if isinstance(record, Mapping) else 0.0


def _teacher_of(record: Mapping[str, Any]) -> TeacherOf:
    return TeacherOf(
        name=text(record, "name"),
        digest=text(record, "digest"),
        parameters=optional_count(record, "parameters"),
        scores=read_scores(record.get("scores") or {}, "teacher.scores"),
    )


# where and how fast a run was made; what tells runs of one table row apart
NOT_SETTINGS = ("seed", "strategy", "student_layers", "device", "precision", "eval_batch_size")

# whose map follows from the strategy and another setting or the seed, and sets no runs apart
MADE_MAPS = ("shuffled", "auto")


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in mapping(record, "params").items() if k not in (*NOT_SETTINGS, "init")}
    init = record.get("init")
    return {
        **kept,
        "init": str(init.get("digest")) if isinstance(init, Mapping) else None,
        "teacher": text(mapping(record, "teacher"), "digest"),
        "other_teachers": _others(record.get("other_teachers")) or None,
        # no cache_id: it is another one where the same rows hold more layers
        "cache_dtype": mapping(record, "cache").get("dtype"),
        "max_length": record.get("max_length"),
        "metric": record.get("metric"),
        "train_rows": record.get("train_rows"),
        "labelled_rows": record.get("labelled_rows"),
        "layer_map": None if record.get("strategy") in MADE_MAPS else record.get("layer_map"),
    }


def _others(teachers: Any) -> list[str]:
    """Name and digest of each further teacher: two may have one name."""
    if not all(isinstance(each, Mapping) for each in teachers or []):
        raise DataError(f"`other_teachers` is {teachers!r}, not names and digests")
    return [f"{text(each, 'name')} {text(each, 'digest')[:8]}" for each in teachers or []]


def _whole_pass(record: Mapping[str, Any]) -> float:
    seconds = optional_number(record, "train_pass_seconds")
    if seconds is None:
        raise DataError("no whole teacher pass was timed: the build was resumed, or reused rows")
    return seconds


def _epoch(record: Any) -> Epoch:
    if not isinstance(record, Mapping):
        raise DataError("history: expected one record per epoch")
    losses = record.get("losses") or {}
    return Epoch(
        epoch=count(record, "epoch"),
        step=count(record, "step"),
        losses={str(term): number(losses, term) for term in losses},
        scores=read_scores(record.get("scores") or {}, "history.scores"),
    )


def _record(path: Path, kind: str) -> Mapping[str, Any]:
    record = read_record(path)
    if record.get("kind") != kind:
        raise DataError(f"{path.name} is of kind {record.get('kind')!r}, not `{kind}`")
    if record.get("format") != FORMAT:
        raise DataError(
            f"{path.name} has format {record.get('format')!r}; this version reads {FORMAT}"
        )
    return record


def read_record(path: Path) -> Mapping[str, Any]:
    """Read a JSON record; raises DataError that says what is wrong, without a path."""
    if not path.is_file():
        raise DataError(f"no {path.name}")
    try:
        record = read_json(path)
    except (DataError, OSError):
        raise DataError(f"{path.name} is not readable JSON") from None
    if not isinstance(record, Mapping):
        raise DataError(f"{path.name} is not a record")
    return record
