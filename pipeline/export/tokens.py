"""The tokenizer of an export: `tokenizer.json` alone makes ready inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.files import read_json
from pipeline.models import DEFAULT_MAX_LENGTH, TEACHER_RECORD, positions_of

RECORDS = ("run.json", TEACHER_RECORD)


def max_length_of(folder: Path, config: Any) -> int:
    """Tokens that a classifier was trained with, by its record; else 128, or what it can read."""
    for name in RECORDS:
        if (folder / name).is_file() and (found := read_json(folder / name).get("max_length")):
            return int(found)
    return min(DEFAULT_MAX_LENGTH, positions_of(config) or DEFAULT_MAX_LENGTH)


def save_tokenizer(tokenizer: Any, max_length: int, folder: Path) -> None:
    """Save a tokenizer whose own file cuts and pads, as training did.

    The `tokenizers` library alone then needs no settings. `transformers` heeds its own arguments.
    """
    from tokenizers import Tokenizer

    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    alone = Tokenizer.from_file(str(path))
    alone.enable_truncation(max_length, strategy="longest_first", direction="right")
    alone.enable_padding(
        direction="right",
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        pad_type_id=0,
    )
    alone.save(str(path))
