"""[CLS] vectors out of a model's hidden states."""

from __future__ import annotations

import torch
from torch import Tensor


def cls_states(
    hidden_states: tuple[Tensor, ...], layers: tuple[int, ...], starts_B: Tensor | None = None
) -> Tensor:
    """[CLS] vectors of chosen layers.

    Args:
        hidden_states: of a model called with `output_hidden_states=True`; entry l is (B, S, H) and
            entry 0 the embeddings.
        layers: numbers in 1..N.
        starts_B: (B,) first tokens of packed rows, whose hidden states are (1, T, H); None for
            padded ones.

    Returns:
        (B, len(layers), H).
    """
    if not layers:
        return hidden_states[0][:, :0]
    return torch.stack([_first_tokens(hidden_states[layer], starts_B) for layer in layers], dim=1)


def _first_tokens(states: Tensor, starts_B: Tensor | None) -> Tensor:
    if starts_B is None or len(states) == len(starts_B):  # at [CLS] alone already
        return states[:, 0]
    return states[0, starts_B]
