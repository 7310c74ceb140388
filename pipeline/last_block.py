"""The last block at [CLS] alone: nothing else of what it puts out is read.

A classifier's head reads one vector of the last block, and so does every strategy. Queries,
attention's output and the feed-forward layers of the other tokens are therefore left out; keys and
values are of all tokens. Logits, [CLS] vectors and gradients are the same but for rounding; with
dropout they are other draws of the same distribution, for there are fewer numbers to draw.

Shapes: B rows, S tokens, H hidden size, D size of a head; T tokens of packed rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pipeline.sharing import FAMILIES

PACKED = "pkd_packed"  # name of `pipeline.packing`'s attention
ATTENTIONS = ("sdpa", PACKED)


@contextmanager
def last_block_at_cls(model: Any) -> Iterator[None]:
    """Within it, `model` computes its last block at the first token alone.

    `hidden_states[-1]` and `last_hidden_state` are then (B, 1, H), which whoever takes
    `[:, 0]` of them does not notice. Models of another family than `FAMILIES`, or with an attention
    that is not of `ATTENTIONS`, run as they are; so does one inside a second time.

    Args:
        model: a `transformers` classifier.
    """
    block = _last_block(model)
    if block is None or "forward" in vars(block):
        yield
        return
    block.forward = _at_cls(block)
    try:
        yield
    finally:
        del block.forward


def _last_block(model: Any) -> Any | None:
    config = model.config
    attention = config._attn_implementation  # noqa: SLF001 (it has no other name)
    if config.model_type not in FAMILIES or attention not in ATTENTIONS:
        return None
    return model.base_model.encoder.layer[-1]


def _at_cls(block: Any) -> Callable[..., Tensor]:
    from transformers import AttentionInterface

    attention = block.attention.self
    attend = AttentionInterface()[attention.config._attn_implementation]  # noqa: SLF001

    def heads(linear: Any, states: Tensor) -> Tensor:
        """(rows, heads, tokens, D)."""
        size = attention.attention_head_size
        projected: Tensor = linear(states).unflatten(-1, (-1, size)).transpose(1, 2)
        return projected

    def forward(states_BSH: Tensor, mask: Tensor | None = None, *_: Any, **options: Any) -> Tensor:
        """(B, 1, H); `mask` is of (B, 1, S, S). Packed rows come as (1, T, H)."""
        if "cu_seq_lens_q" in options:
            first_1BH = states_BSH[:, options["cu_seq_lens_q"][:-1]]
            first, options = first_1BH, options | _one_query_each(options["cu_seq_lens_q"])
        else:
            first = states_BSH[:, :1]
        context, _weights = attend(
            attention,
            heads(attention.query, first),
            heads(attention.key, states_BSH),
            heads(attention.value, states_BSH),
            None if mask is None else mask[:, :, :1],
            dropout=attention.dropout.p if attention.training else 0.0,
            scaling=attention.scaling,
            **options,
        )
        attended = block.attention.output(context.flatten(2), first)
        result: Tensor = block.feed_forward_chunk(attended)
        return result.transpose(0, 1) if "cu_seq_lens_q" in options else result

    return forward


def _one_query_each(ends_B1: Tensor) -> dict[str, Any]:
    """What packed attention is told of queries of first tokens alone."""
    queries = torch.arange(len(ends_B1), dtype=ends_B1.dtype, device=ends_B1.device)
    return {"cu_seq_lens_q": queries, "max_length_q": 1}
