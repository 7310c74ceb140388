"""Scoring a finished student on the rows of a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.batches import Rows
from pipeline.devices import pick_device
from pipeline.errors import CacheMismatchError
from pipeline.files import write_atomic
from pipeline.models.inputs import require_readable
from pipeline.models.load import load_classifier, load_tokenizer
from pipeline.store.reader import TeacherCache
from pipeline.student.logits import logits_parquet
from pipeline.student.recipe import require_tokenizer
from pipeline.tasks import Task
from pipeline.training.evaluate import predict, score_rows

EVAL_BATCH = 128


def score_student(
    student: Path,
    cache_path: Path | str,
    split: str | None,
    logits_path: Path | None,
    device_name: str,
) -> dict[str, dict[str, float]]:
    """Score a student, and write its logits when asked.

    Args:
        student: a plain Hugging Face folder.
        cache_path: a cache whose tokens the student understands.
        split: None = the task's validation splits.
        logits_path: Parquet with columns split, example_id and logits (list<float>).
        device_name: see `pick_device`.

    Returns:
        Scores by split; {} for one without labels.

    Raises:
        CacheError, ModelError; CacheMismatchError for other labels, another tokenizer, or rows that
            the student cannot read.
    """
    device = pick_device(device_name)
    model = load_classifier(str(student)).to(device)
    cache, task = open_for(student, model.config, cache_path)
    scores, written = {}, []
    for name in (split,) if split else task.validation_splits:
        examples = cache.examples(name)
        rows = Rows.from_examples(examples, cache.manifest.tokenizer["pad_id"]).to(device)
        require_readable(rows, model.config, str(student), f"{cache.text}, {name}")
        logits = predict(model, rows, EVAL_BATCH)
        scores[name] = score_rows(task, logits, rows)
        written.append((name, examples["example_id"].to_pylist(), logits))
    if logits_path:
        write_atomic(logits_path, logits_parquet(written))
    return scores


def open_for(student: Path, config: Any, cache_path: Path | str) -> tuple[TeacherCache, Task]:
    """Open a cache for a student that is to be scored on it.

    Raises:
        CacheError; CacheMismatchError for other labels or another tokenizer.
    """
    cache = TeacherCache.open(cache_path)
    task = Task.from_dict(cache.manifest.task)
    _require_same_labels(student, config, task, cache_path)
    if (student / "tokenizer.json").is_file():
        require_tokenizer(cache.manifest, load_tokenizer(str(student)), str(student))
    return cache, task


def _require_same_labels(student: Path, config: Any, task: Task, cache_path: Path | str) -> None:
    found = [str(config.id2label[index]) for index in range(config.num_labels)]
    wanted = list(task.label_names) or found[:1]
    if found != wanted:
        raise CacheMismatchError(
            f"{student}: its outputs are {', '.join(found)}; {cache_path} is of task {task.name} "
            f"with {', '.join(task.label_names) or 'a number'}."
        )
