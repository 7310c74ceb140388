"""The last block at [CLS] alone: nothing else of what it puts out is read.

A classifier's head reads one vector of the last block, and so does every strategy. Queries,
attention's output and the feed-forward layers of the other tokens are therefore left out; keys and
values are of all tokens. Logits, [CLS] vectors and gradients are the same but for rounding; with
dropout they are other draws of the same distribution, for there are fewer numbers to draw.

Shapes: B rows, S tokens, H hidden size, D size of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pipeline.sharing import FAMILIES

ATTENTION = "sdpa"


@contextmanager
def last_block_at_cls(model: Any) -> Iterator[None]:
    """Within it, `model` computes its last block at the first token alone.

    `hidden_states[-1]` and `last_hidden_state` are then (B, 1, H), which whoever takes
    `[:, 0]` of them does not notice. Models of another family than `FAMILIES`, or with another
    attention than PyTorch's, run as they are; so does one inside a second time.

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
    if config.model_type not in FAMILIES or attention != ATTENTION:
        return None
    return model.base_model.encoder.layer[-1]


def _at_cls(block: Any) -> Callable[..., Tensor]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    attention = block.attention.self

    def heads(linear: Any, states: Tensor) -> Tensor:
        """(B, heads, tokens, D)."""
        size = attention.attention_head_size
        projected: Tensor = linear(states).unflatten(-1, (-1, size)).transpose(1, 2)
        return projected

    def forward(states_BSH: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """(B, 1, H); `mask` is of (B, 1, S, S)."""
        first_B1H = states_BSH[:, :1]
        context, _weights = sdpa_attention_forward(
            attention,
            heads(attention.query, first_B1H),
            heads(attention.key, states_BSH),
            heads(attention.value, states_BSH),
            None if mask is None else mask[:, :, :1],
            dropout=attention.dropout.p if attention.training else 0.0,
            scaling=attention.scaling,
        )
        attended_B1H = block.attention.output(context.flatten(2), first_B1H)
        result: Tensor = block.feed_forward_chunk(attended_B1H)
        return result

    return forward
