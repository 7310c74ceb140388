"""Rows of a cache as text again: what its tokens decode to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, PipelineError
from pipeline.report.tokens import CacheView

LONGEST = 400  # characters of a segment


def load_decoder(folder: Path, view: CacheView) -> Any:
    """The tokenizer of a student's folder; DataError where it is not that of the cache's tokens."""
    from pipeline.digests import digest_tokenizer
    from pipeline.models.load import load_tokenizer

    if not (folder / "tokenizer.json").is_file():
        raise DataError("it has no tokenizer.json to read the rows with")
    try:
        tokenizer = load_tokenizer(str(folder))
    except PipelineError:
        raise DataError("its tokenizer cannot be loaded") from None
    if digest_tokenizer(tokenizer) != view.tokenizer_digest:
        raise DataError("its tokenizer is not the one of the cached tokens")
    return tokenizer


def texts_of(view: CacheView, tokenizer: Any, places: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Place in the split -> the texts of the row, one for each sentence of a pair."""
    ids = view.examples["input_ids"]
    return {place: segments(tokenizer, ids[place].as_py()) for place in places}


def segments(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Decode a row, cut at its separators; special tokens are left out."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    parts: list[list[int]] = [[]]
    for token in ids:
        if token in special:
            parts.append([])
        else:
            parts[-1].append(token)
    texts = (" ".join(tokenizer.decode(part).split()) for part in parts if part)
    return tuple(t if len(t) <= LONGEST else f"{t[: LONGEST - 1]}…" for t in texts)
