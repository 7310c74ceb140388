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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.models import sharing

FAMILIES = (*sharing.FAMILIES, "distilbert")
OWN = "pkd"  # name of `pipeline.models.attention`'s
ATTENTIONS = ("sdpa", OWN)


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
        vars(block).pop("forward", None)  # another thread's may have ended first


def blocks_of(model: Any) -> Any:
    """The transformer blocks of a model of `FAMILIES`."""
    encoder = model.base_model
    return (encoder.transformer if hasattr(encoder, "transformer") else encoder.encoder).layer


def attention_dropout(model: Any) -> float:
    """The probability, of a model of `FAMILIES`."""
    return max(float(_parts_of(block).attention.dropout.p) for block in blocks_of(model))


def _last_block(model: Any) -> Any | None:
    config = model.config
    if getattr(config, "model_type", None) not in FAMILIES:  # any module with outputs may be scored
        return None
    if config._attn_implementation not in ATTENTIONS:  # noqa: SLF001 (it has no other name)
        return None
    return blocks_of(model)[-1]


@dataclass(frozen=True)
class _Parts:
    """What a block is made of, whatever its family calls it."""

    attention: Any
    query: Any
    key: Any
    value: Any
    rest: Callable[[Tensor, Tensor], Tensor]
    """(attended, input) -> output of the block, token by token."""


def _parts_of(block: Any) -> _Parts:
    if not hasattr(block, "ffn"):
        own = block.attention.self
        return _Parts(
            own,
            own.query,
            own.key,
            own.value,
            lambda context, states: block.feed_forward_chunk(
                block.attention.output(context, states)
            ),
        )
    own = block.attention  # of DistilBERT

    def rest(context: Tensor, states: Tensor) -> Tensor:
        attended = block.sa_layer_norm(own.out_lin(context) + states)
        result: Tensor = block.output_layer_norm(block.ffn(attended) + attended)
        return result

    return _Parts(own, own.q_lin, own.k_lin, own.v_lin, rest)


def _at_cls(block: Any) -> Callable[..., Tensor]:
    from transformers import AttentionInterface

    parts = _parts_of(block)
    attention = parts.attention
    attend = AttentionInterface()[attention.config._attn_implementation]  # noqa: SLF001

    def heads(linear: Any, states: Tensor) -> Tensor:
        """(rows, heads, tokens, D)."""
        size = attention.attention_head_size
        projected: Tensor = linear(states).unflatten(-1, (-1, size)).transpose(1, 2)
        return projected

    def forward(states_BSH: Tensor, mask: Tensor | None = None, *_: Any, **options: Any) -> Tensor:
        """(B, 1, H); `mask` is of (B, 1, S, S). Packed rows come as (1, T, H)."""
        packed = "cu_seq_lens_q" in options
        if packed:
            first = states_BSH[:, options["cu_seq_lens_q"][:-1]]  # (1, B, H)
            options |= _one_query_each(options["cu_seq_lens_q"])
        else:
            first = states_BSH[:, :1]
        context, _weights = attend(
            attention,
            heads(parts.query, first),
            heads(parts.key, states_BSH),
            heads(parts.value, states_BSH),
            None if mask is None else mask[:, :, :1],
            dropout=attention.dropout.p if attention.training else 0.0,
            scaling=attention.scaling,
            **options,
        )
        result = parts.rest(context.flatten(2), first)
        return result.transpose(0, 1) if packed else result

    return forward


def _one_query_each(ends_B1: Tensor) -> dict[str, Any]:
    """What packed attention is told of queries of first tokens alone."""
    queries = torch.arange(len(ends_B1), dtype=ends_B1.dtype, device=ends_B1.device)
    return {"cu_seq_lens_q": queries, "max_length_q": 1}
