"""What a model reads, whether it can read given rows, and made-up rows for checks and timings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.batches import UNLABELLED_CLASS, Rows
from pipeline.errors import CacheMismatchError, ModelError

COUNTS_POSITIONS_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def input_names(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """The inputs that both the tokenizer makes and the model reads, in the order of `INPUTS`."""
    read = inspect.signature(model.forward).parameters
    made = {*tokenizer.model_input_names, "input_ids", "attention_mask"}
    return tuple(name for name in INPUTS if name in read and name in made)


def require_length(max_length: int, config: Any, name: str) -> None:
    """Refuse inputs longer than the encoder has positions for; raises ModelError."""
    positions = positions_of(config)
    if positions and max_length > positions:
        raise ModelError(
            f"{name}: reads at most {positions} tokens, max_length is {max_length}; "
            "lower --max-length."
        )


def positions_of(config: Any) -> int | None:
    """Tokens that an encoder has positions for; None where there is no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions - first_position(config) if positions else None


def first_position(config: Any) -> int:
    """Position of an input's first token."""
    counts_from_padding = config.model_type in COUNTS_POSITIONS_FROM_PADDING
    return int(config.pad_token_id) + 1 if counts_from_padding else 0


def require_readable(rows: Rows, config: Any, model: str, where: str) -> None:
    """Refuse rows for which a model has no embedding, before it fails in the middle of them.

    Args:
        rows: of a cache's split.
        config: the model's configuration.
        model: its name, for the message.
        where: cache and split, likewise.

    Raises:
        CacheMismatchError: a row longer than the model's positions, or a token or a token type
            beyond its embeddings.
    """
    if not len(rows):
        return
    longest, positions = int(rows.lengths_N.max()), positions_of(config)
    if positions and longest > positions:
        raise CacheMismatchError(
            f"{where}: has rows of {longest} tokens; {model} reads at most {positions}. Use an "
            f"encoder that reads more, or build a cache with --max-length {positions}."
        )
    held = {"token id": (rows.ids_T, "vocab_size"), "token type": (rows.types_T, "type_vocab_size")}
    for name, (values_T, key) in held.items():
        count = getattr(config, key, None)
        if values_T is None or not count:  # DeBERTa has 0 token types and ignores them
            continue
        if (largest := int(values_T.max())) >= count:
            raise CacheMismatchError(
                f"{where}: has {name} {largest}; {model} has embeddings for {count}, numbered from "
                f"0 ({key} in its config.json). Use an encoder that has them, as the teacher does."
            )


def made_up_rows(
    tokenizer: Any, config: Any, names: Sequence[str], lengths: Sequence[int], seed: int = 0
) -> Rows:
    """Rows as the tokenizer would frame them: [CLS], tokens drawn from its vocabulary, [SEP].

    Where the model has two token types, the second half of a row is of the second.

    Args:
        tokenizer: of the model.
        config: the model's configuration.
        names: the model's inputs, as of `input_names`.
        lengths: tokens of each row, special ones included; at least 2.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    words = _ordinary_ids(tokenizer, config.vocab_size)
    ids, types = [], []
    for length in lengths:
        row = words[torch.randint(len(words), (length,), generator=generator)]
        row[0], row[-1] = tokenizer.cls_token_id, tokenizer.sep_token_id
        ids.append(row)
        types.append((torch.arange(length) * 2 >= length).long())
    if getattr(config, "type_vocab_size", 0) < 2:
        types = [torch.zeros_like(each) for each in types]
    return Rows(
        ids_T=torch.cat(ids),
        types_T=torch.cat(types) if "token_type_ids" in names else None,
        starts_N1=torch.tensor([0, *lengths]).cumsum(0),
        labels_N=torch.full((len(lengths),), UNLABELLED_CLASS),
        pad_id=tokenizer.pad_token_id,
    )


def _ordinary_ids(tokenizer: Any, vocab_size: int) -> Tensor:
    """(V,) int64: ids that an embedding of `vocab_size` rows has and that are not special."""
    special = set(tokenizer.all_special_ids)
    return torch.tensor([i for i in range(min(len(tokenizer), vocab_size)) if i not in special])
