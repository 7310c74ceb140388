"""What an export computes next to its model: logits, labels and scores of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.batches import Rows, spread_rows
from pipeline.digests import digest_file
from pipeline.errors import CacheMismatchError
from pipeline.export.card import MADE_UP
from pipeline.export.compare import (
    BATCH_SIZES,
    agreement,
    largest_error,
    require_equal,
    side_by_side,
)
from pipeline.export.record import FILES
from pipeline.export.runtime import OnnxClassifier
from pipeline.models.inputs import made_up_rows, require_readable
from pipeline.student.score import open_for
from pipeline.tasks import Task
from pipeline.training.evaluate import predict, score_rows

CHECKED_ROWS = 64  # of each validation split, or made up
EVAL_BATCH = 32

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The rows that an export is checked on."""

    rows: Mapping[str, Rows]
    """By validation split, or `MADE_UP`."""
    task: Task | None
    """None for made-up rows, which have no score."""


def rows_to_check(
    student: Path,
    model: Any,
    tokenizer: Any,
    names: Sequence[str],
    max_length: int,
    cache: Path | str | None,
) -> Splits:
    """The validation rows of a cache, or made-up rows of all lengths up to `max_length`.

    Raises:
        CacheError; CacheMismatchError for a cache that is not for this student.
    """
    if cache is None:
        rows = made_up_rows(tokenizer, model.config, names, _mixed_lengths(max_length))
        return Splits(rows={MADE_UP: rows}, task=None)
    opened, task = open_for(student, model.config, cache)
    pad_id = opened.manifest.tokenizer["pad_id"]
    splits = {
        name: Rows.from_examples(opened.examples(name), pad_id) for name in task.validation_splits
    }
    for name, rows in splits.items():
        if (rows.types_T is not None) != ("token_type_ids" in names):
            raise CacheMismatchError(
                f"{cache}: its rows of {name} do not have the inputs of {student}, which reads "
                f"{', '.join(names)}."
            )
        require_readable(rows, model.config, str(student), f"{opened.text}, {name}")
    return Splits(rows=splits, task=task)


def _mixed_lengths(longest: int) -> list[int]:
    """`CHECKED_ROWS` lengths from 2 to `longest`, short ones beside long ones."""
    step = (longest - 2) / (CHECKED_ROWS - 1)
    ordered = [2 + round(place * step) for place in range(CHECKED_ROWS)]
    return [ordered[place * 29 % CHECKED_ROWS] for place in range(CHECKED_ROWS)]  # 29 is odd


def measured(
    student: Path, model: Any, folder: Path, wanted: Sequence[str], splits: Splits
) -> dict[str, Any]:
    """The check of the float32 file, and what each file scores.

    Args:
        student: names the model in errors.
        model: the classifier itself.
        folder: where the files are.
        wanted: keys of `FILES`.
        splits: the rows.

    Returns:
        check, scores and files of the record.

    Raises:
        ExportError: the logits of the float32 file differ from the model's.
    """
    loaded = {kind: OnnxClassifier(folder / FILES[kind]) for kind in wanted}
    logits = {
        name: {"pytorch": predict(model, rows, EVAL_BATCH)}
        | {kind: each.predict(rows, EVAL_BATCH) for kind, each in loaded.items()}
        for name, rows in splits.rows.items()
    }
    sampled = [
        side_by_side(model, loaded["float32"], rows.take(spread_rows(len(rows), CHECKED_ROWS)))
        for rows in splits.rows.values()
    ]
    whole = [(each["pytorch"], each["float32"]) for each in logits.values()]
    error, allowed = require_equal([*sampled, *whole], str(student))
    return {
        "check": {
            "rows": {name: len(rows) for name, rows in splits.rows.items()},
            "batch_sizes": [*BATCH_SIZES, EVAL_BATCH],
            "largest_error": error,
            "tolerance": allowed,
        },
        "scores": {"pytorch": _scores(splits, logits, "pytorch")},
        "files": {kind: _of_file(folder / FILES[kind], kind, splits, logits) for kind in wanted},
    }


def _of_file(
    path: Path, kind: str, splits: Splits, logits: Mapping[str, Mapping[str, Array]]
) -> dict[str, Any]:
    pairs = {name: (each["pytorch"], each[kind]) for name, each in logits.items()}
    return {
        "file": path.name,
        "size_bytes": path.stat().st_size,
        "sha256": digest_file(path),
        "scores": _scores(splits, logits, kind),
        "same_label": {name: agreement(*pair) for name, pair in pairs.items()},
        "largest_error": {name: largest_error([pair]) for name, pair in pairs.items()},
    }


def _scores(
    splits: Splits, logits: Mapping[str, Mapping[str, Array]], kind: str
) -> dict[str, dict[str, float]]:
    if splits.task is None:
        return {}
    return {
        name: score_rows(splits.task, logits[name][kind], rows)
        for name, rows in splits.rows.items()
    }
