"""What a finished classifier's record says: how it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.files import read_json
from pipeline.models.inputs import positions_of

DEFAULT_MAX_LENGTH = 128  # tokens, where a teacher has no record of its own
TEACHER_RECORD = "teacher.json"
RECORDS = ("run.json", TEACHER_RECORD)


def record_of(name: Path | str) -> dict[str, Any]:
    """What `pkd-student fit` or `pkd-teacher fit` wrote beside the weights; {} for other models.

    Raises:
        DataError: it cannot be read.
        ModelError: it is no JSON object.
    """
    for file in RECORDS:
        path = Path(name).expanduser() / file
        if path.is_file():
            if not isinstance(record := read_json(path), dict):
                raise ModelError(f"{path}: expected a JSON object, found {str(record)[:40]}.")
            return record
    return {}


def trained_length(record: dict[str, Any], config: Any) -> int:
    """Tokens that inputs were cut to in training; without a record 128, or what the model reads."""
    positions = positions_of(config) or DEFAULT_MAX_LENGTH
    return int(record.get("max_length") or min(DEFAULT_MAX_LENGTH, positions))


def read_teacher_record(teacher: str) -> dict[str, Any]:
    """What `pkd-teacher fit` wrote beside the weights; {} for any other model."""
    path = Path(teacher).expanduser() / TEACHER_RECORD
    return dict(read_json(path)) if path.is_file() else {}
