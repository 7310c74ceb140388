"""The tokenizer of an export: `tokenizer.json` alone makes ready inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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
