"""Training without padding: the rows of a batch as one, and attention that knows where each ends.

On CUDA attention is `torch.nn.attention.varlen`, which is FlashAttention; elsewhere it runs row by
row, which is no faster than padding, and equal to it. It is `transformers`' own way of taking part
in a model (`AttentionInterface`), whose code runs unchanged.

Shapes: B rows, T tokens of all of them together, A heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.devices import pick_precision
from pipeline.errors import ModelError, ParamsError
from pipeline.models.last_block import FAMILIES, PACKED, attention_dropout, last_block_at_cls
from pipeline.params import FitParams


@contextmanager
def as_trained(model: Any, settings: FitParams, device: torch.device) -> Iterator[None]:
    """Run a model as training does: its last block at [CLS] alone, and packed if that was asked.

    Args:
        model: a `transformers` classifier.
        settings: `packed` of them.
        device: where it is trained.

    Raises:
        ModelError, ParamsError: a model, precision or dropout with which rows cannot be packed.
    """
    if not settings.packed:
        with last_block_at_cls(model):
            yield
        return
    require_packable(model, settings, device)
    before = _register(model)
    try:
        with last_block_at_cls(model):
            yield
    finally:
        model.set_attn_implementation(before)


def require_packable(model: Any, settings: FitParams, device: torch.device) -> None:
    """Refuse what packed attention cannot do; see `as_trained`."""
    config = model.config
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"--packed needs blocks like BERT's, which `{config.model_type}` does not have; start "
            f"from one of {', '.join(FAMILIES)}, or leave --packed out."
        )
    if dropout := attention_dropout(model):
        raise ParamsError(
            "--packed: attention over packed rows has no dropout, and this encoder's is "
            f"{dropout:g}; add --dropout 0, or leave --packed out."
        )
    precision = pick_precision(settings.precision, device)
    if device.type == "cuda" and precision != "bfloat16":
        raise ParamsError(
            f"--packed: on a GPU it needs --precision bfloat16, found {precision}; leave one of "
            "the two out."
        )


def _register(model: Any) -> str:
    """Switch a model to packed attention; the name of the one before."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)  # of the padded batches of an evaluation
    before: str = model.config._attn_implementation  # noqa: SLF001 (it has no other name)
    model.set_attn_implementation(PACKED)
    return before


def packed_attention(
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
    """Attention within each of several rows that stand one behind the other; without dropout.

    Args:
        module: the layer that asks.
        query: (1, A, T, D), of other tokens than the keys where only some are asked for.
        key: (1, A, T, D).
        value: (1, A, T, D).
        attention_mask: of a padded batch.
        scaling: factor of the scores.
        cu_seq_lens_q: (B + 1,) int32, where rows of queries begin and end; None for a padded batch,
            which PyTorch's own attention then gets.
        cu_seq_lens_k: likewise of keys and values.
        max_length_q: queries of the longest row.
        max_length_k: its keys.
        options: what else `transformers` tells an attention.

    Returns:
        (1, T, A, D), and None for the weights.
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
