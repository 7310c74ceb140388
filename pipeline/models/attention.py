"""Our own way of taking part in a model's attention: `transformers`' `AttentionInterface`.

It is PyTorch's attention, and two things beside it. Rows of a batch may stand one behind the other
without padding: on CUDA attention is then `torch.nn.attention.varlen`, which is FlashAttention;
elsewhere it runs row by row, which is no faster than padding, and equal to it. And the mask of a
padded batch is made without a look at its values: `transformers` asks in every forward pass whether
anything is padded, and on CUDA the processor has to wait for the answer.

Shapes: B rows, T tokens of all of them together, A heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.last_block import FAMILIES, OWN


@contextmanager
def own_attention(model: Any) -> Iterator[None]:
    """Within it, `model` has our attention, if it is of `FAMILIES`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if getattr(model.config, "model_type", None) not in FAMILIES:
        yield
        return
    AttentionInterface.register(OWN, attend)
    AttentionMaskInterface.register(OWN, mask_without_waiting)
    before: str = model.config._attn_implementation  # noqa: SLF001 (it has no other name)
    model.set_attn_implementation(OWN)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def mask_without_waiting(*, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """`transformers`' mask for PyTorch's attention, but made whether or not anything is padded.

    Args:
        attention_mask: (B, S) of the tokens; None for packed rows, which need no mask.
        options: what else `transformers` tells of a mask.

    Returns:
        (B, 1, S, S) bool, or None without an `attention_mask`.
    """
    from transformers.masking_utils import sdpa_mask

    options["allow_is_bidirectional_skip"] = attention_mask is None
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **options)
    return mask


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int = 0,
    max_length_k: int = 0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of a padded batch, or within each of several rows that stand one behind the other.

    Args:
        module: the layer that asks.
        query: (1, A, T, D) of packed rows, or (B, A, S, D); of other tokens than the keys where
            only some are asked for.
        key: likewise.
        value: likewise.
        attention_mask: of a padded batch.
        scaling: factor of the scores.
        cu_seq_lens_q: (B + 1,) int32, where rows of queries begin and end; None for a padded batch,
            which PyTorch's own attention then gets.
        cu_seq_lens_k: likewise of keys and values.
        max_length_q: queries of the longest row.
        max_length_k: its keys.
        options: what else `transformers` tells an attention; dropout is for padded batches alone.

    Returns:
        (1, T, A, D) or (B, S, A, D), and None for the weights.
    """
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        result_TAD = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            cu_seq_lens_q,
            cu_seq_lens_k,
            max_length_q,
            max_length_k,
            scale=scaling,
        )
        assert isinstance(result_TAD, Tensor)
        return result_TAD.unsqueeze(0), None
    sizes_q, sizes_k = cu_seq_lens_q.diff().tolist(), cu_seq_lens_k.diff().tolist()
    rows = zip(query.split(sizes_q, 2), key.split(sizes_k, 2), value.split(sizes_k, 2), strict=True)
    alone = [F.scaled_dot_product_attention(*row, scale=scaling) for row in rows]
    return torch.cat(alone, dim=2).transpose(1, 2), None
