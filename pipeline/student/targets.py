"""Where a training step finds the teacher's outputs: on its device, or waiting in main memory.

Shapes: N rows of a split, B of a batch, L layers, H hidden size, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.errors import ParamsError
from pipeline.store.reader import TeacherCache

RESIDENT_SHARE = 0.5  # the rest is for the student, its optimizer and activations


class Targets(Protocol):
    """The teacher's outputs for a batch, wherever they come from."""

    def __call__(self, rows_B: Tensor, inputs: dict[str, Any], /) -> tuple[Tensor, Tensor]:
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
        cls_BLH = self._gathered(rows_B)
        if self.scale_NL is not None:
            cls_BLH = cls_BLH.float() * self.scale_NL[rows_B].unsqueeze(-1)
        return self.logits_NK[rows_B], cls_BLH

    def _gathered(self, rows_B: Tensor) -> Tensor:
        return self.cls_NLH[rows_B]

    def prefetch(self, rows_B: Tensor) -> None:
        """Told of the next batch by row numbers on the CPU; of use where vectors have to travel."""


@dataclass(frozen=True)
class HostTargets(CachedTargets):
    """[CLS] vectors in main memory or a memory map, for a device that they do not fit on.

    A batch is gathered there and sent while the device is busy with earlier work, so that no step
    waits for it.
    """

    _sent: list[Tensor] = field(default_factory=list, compare=False)

    def prefetch(self, rows_B: Tensor) -> None:
        """Gather the vectors of the next batch and send them; returns at once."""
        device = self.logits_NK.device
        cls_BLH = self.cls_NLH[rows_B]
        if device.type == "cuda":
            cls_BLH = cls_BLH.pin_memory()  # from other memory a transfer waits for its end
        self._sent[:] = [cls_BLH.to(device, non_blocking=True)]

    def _gathered(self, rows_B: Tensor) -> Tensor:
        if not self._sent:
            self.prefetch(rows_B.cpu())
        return self._sent.pop()


def load_targets(
    cache: TeacherCache, split: str, layers: tuple[int, ...], device: torch.device
) -> CachedTargets:
    """Read the logits and the chosen layers of a split, and no others; digests are checked.

    Vectors that take more than `RESIDENT_SHARE` of a device's free memory stay in main memory, and
    those that do not fit there in a memory map.
    """
    stored = cache.stored(split, layers)
    values = torch.from_numpy(stored.values_RLH)
    scale = None if stored.scale_RL is None else torch.from_numpy(stored.scale_RL).to(device)
    logits = torch.from_numpy(cache.logits(split)).to(device)
    if values.nbytes > RESIDENT_SHARE * free_bytes(device):
        return HostTargets(logits, values, scale)
    return CachedTargets(logits, values.to(device), scale)


def free_bytes(device: torch.device) -> float:
    """Free memory of a device; of the CPU, whose vectors are where they are, no limit."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else math.inf


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
    logits_NK = controlled_logits(targets.logits_NK, labels_N, control, seed)
    return replace(targets, logits_NK=logits_NK)


def controlled_logits(logits_NK: Tensor, labels_N: Tensor, control: str, seed: int) -> Tensor:
    """(N, K) logits of one teacher as `controlled` makes them."""
    if control == "own":
        return logits_NK
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
    return result_NK


def _log_mean_softmax(logits_RK: Tensor) -> Tensor:
    """(K,) log of the mean over rows; finite where a probability is too small for its type."""
    return logits_RK.log_softmax(-1).logsumexp(0) - math.log(len(logits_RK))
