"""Rows of a dataset that a cache does not have: which, and why, as far as their tokens tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.digests import row_digest
from pipeline.errors import CacheMismatchError

if TYPE_CHECKING:
    from pipeline.store.manifest import Manifest
    from pipeline.store.reader import TeacherCache

SHOWN = 3  # rows named in an error

Tokens = tuple[list[int], list[int] | None]


def unmatched(
    cache: TeacherCache, split: str, rows: int, missing: Sequence[int], tokens: Sequence[Tokens]
) -> CacheMismatchError:
    """The error for rows that are not in a split.

    Args:
        cache: that they were looked for in.
        split: of it.
        rows: of the whole dataset.
        missing: numbers of the rows that are not there, at least one.
        tokens: ids and types of each of them.
    """
    reasons = Counter(filter(None, (_fault(ids, cache.manifest) for ids, _ in tokens)))
    if not reasons:
        reasons = _elsewhere(cache, split, tokens)
    told = [f"{count:,} of them {reason}." for reason, count in reasons.items()]
    text = (
        f"{cache.text}: {len(missing):,} of {rows:,} rows are not in {split} "
        f"(rows {shown(missing)})."
    )
    return CacheMismatchError(" ".join([text, *(told or [_rule(cache.manifest, tokens)])]))


def _fault(ids: list[int], manifest: Manifest) -> str | None:
    """What a row that the teacher read can never have; None when it could be one."""
    tokenizer, longest = manifest.tokenizer, manifest.max_length
    if ids and tokenizer["pad_id"] in (ids[0], ids[-1]):
        return "are padded; tokenise without padding, which is a collator's work"
    if max(ids, default=0) >= tokenizer["vocab_size"]:
        size = f"{tokenizer['vocab_size']:,}"
        return f"have token ids beyond {size} words; use the tokenizer {tokenizer['name']}"
    if len(ids) > longest:
        rule = f"tokenise with truncation=True, max_length={longest}"
        return f"are longer than the teacher's {longest} tokens; {rule}"
    return None


def _elsewhere(cache: TeacherCache, split: str, tokens: Sequence[Tokens]) -> Counter[str]:
    """How many rows the other splits have."""
    digests = [row_digest(*row) for row in tokens]
    found: Counter[str] = Counter()
    for name in cache.splits:
        if name != split:
            held = first_places(cache.examples(name))
            found[f"are in {name}"] = sum(digest in held for digest in digests)
    return +found  # without those that are 0


def _rule(manifest: Manifest, tokens: Sequence[Tokens]) -> str:
    return (
        f"They have up to {max(len(ids) for ids, _ in tokens)} tokens. Tokenise as the teacher's "
        f"rows were: tokenizer {manifest.tokenizer['name']}, columns "
        f"{', '.join(manifest.task['text_columns'])}, truncation=True, "
        f"max_length={manifest.max_length}. If their texts were changed since, build the cache "
        "again."
    )


def first_places(examples: Any) -> dict[bytes, int]:
    """Row digest -> the first row that has it."""
    place: dict[bytes, int] = {}
    for row, digest in enumerate(examples["row_digest"].to_pylist()):
        place.setdefault(digest, row)
    return place


def shown(values: Sequence[int]) -> str:
    """The first few."""
    text = ", ".join(str(value) for value in values[:SHOWN])
    return text + (", ..." if len(values) > SHOWN else "")
