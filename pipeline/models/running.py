"""How a model runs: what nobody reads is left out, and on CUDA nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from pipeline.devices import pick_precision
from pipeline.errors import ModelError, ParamsError
from pipeline.models.attention import own_attention
from pipeline.models.last_block import FAMILIES, attention_dropout, last_block_at_cls
from pipeline.params import FitParams


@contextmanager
def as_run(model: Any, device: torch.device, *, packed: bool = False) -> Iterator[None]:
    """Run a model with its last block at [CLS] alone, and on CUDA without waiting for the device.

    Args:
        model: a `transformers` classifier.
        device: where it is. Elsewhere than on CUDA a batch without padding is spared its mask,
            which costs a look at every mask.
        packed: whether its batches may be rows without padding; see `require_packable`.
    """
    own = packed or device.type == "cuda"
    with own_attention(model) if own else nullcontext(), last_block_at_cls(model):
        yield


@contextmanager
def as_trained(model: Any, settings: FitParams, device: torch.device) -> Iterator[None]:
    """`as_run`, packed if the settings say so.

    Raises:
        ModelError, ParamsError: a model, precision or dropout with which rows cannot be packed.
    """
    if settings.packed:
        require_packable(model, settings, device)
    with as_run(model, device, packed=settings.packed):
        yield


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
