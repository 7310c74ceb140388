"""Where a training step finds the teacher's outputs: resident tensors read from a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import ParamsError
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


def controlled(targets: CachedTargets, labels_N: Tensor, control: str, seed: int) -> CachedTargets:
    """Targets whose logits tell less: do the teacher's outputs teach more than smoothed labels do?

    Args:
        targets: of a split.
        labels_N: its labels; a row without one counts as of the class that the teacher gives it.
        control: "own" = as they are; "class-mean" = log of the mean softmax over the rows of its
            class; "permuted" = the logits of another row of its class, drawn by `seed`, each row's
            once; the only row of a class keeps its own.
        seed: of the draw.

    Raises:
        ParamsError: a control for a regression.
    """
    if control == "own":
        return targets
    logits_NK = targets.logits_NK
    if logits_NK.shape[1] == 1:
        raise ParamsError(f"--teacher-outputs {control}: needs classes; this task is a regression.")
    class_N = torch.where(labels_N < 0, logits_NK.argmax(-1), labels_N)
    result_NK = logits_NK.clone()
    draw = torch.Generator().manual_seed(seed)
    for label in class_N.unique():
        rows = (class_N == label).nonzero()[:, 0]
        if control == "class-mean":
            result_NK[rows] = _log_mean_softmax(logits_NK[rows])
        else:
            # a cycle through all rows in a drawn order: none stays where it was
            rows = rows[torch.randperm(len(rows), generator=draw).to(rows.device)]
            result_NK[rows] = logits_NK[rows.roll(1)]
    return replace(targets, logits_NK=result_NK)


def _log_mean_softmax(logits_RK: Tensor) -> Tensor:
    """(K,) log of the mean over rows; finite where a probability is too small for its type."""
    return logits_RK.log_softmax(-1).logsumexp(0) - math.log(len(logits_RK))
