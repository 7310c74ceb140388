"""Where a training step finds the teacher's outputs: resident tensors read from a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.store.reader import TeacherCache


class Targets(Protocol):
    """The teacher's outputs for a batch, wherever they come from."""

    def __call__(self, rows_B: Tensor, inputs: dict[str, Tensor], /) -> tuple[Tensor, Tensor]:
        """(B, K) logits and (B, L, H) matched [CLS] vectors, on the device of `rows_B`."""


@dataclass(frozen=True)
class CachedTargets:
    """All targets of a split on one device."""

    logits_NK: Tensor
    cls_NLH: Tensor
    """In the stored type; (N, 0, H) when nothing is matched."""
    scale_NL: Tensor | None = None
    """Of int8 vectors: a value is scale * int8."""

    def __call__(self, rows_B: Tensor, _: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Gather the rows; the inputs are not needed."""
        cls_BLH = self.cls_NLH[rows_B]
        if self.scale_NL is not None:
            cls_BLH = cls_BLH.float() * self.scale_NL[rows_B].unsqueeze(-1)
        return self.logits_NK[rows_B], cls_BLH


def load_targets(
    cache: TeacherCache, split: str, layers: tuple[int, ...], device: torch.device
) -> CachedTargets:
    """Read the logits and the chosen layers of a split, and no others; digests are checked.

    On the CPU, vectors that do not fit into memory stay in a memory map.
    """
    stored = cache.stored(split, layers)
    scale = None if stored.scale_RL is None else torch.from_numpy(stored.scale_RL).to(device)
    return CachedTargets(
        torch.from_numpy(cache.logits(split)).to(device),
        torch.from_numpy(stored.values_RLH).to(device),
        scale,
    )
