"""Running a fine-tuned teacher over token rows; stage two never imports this module.

Shapes: B rows of a batch, L cached layers, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.batches import Rows, on_device, token_budget_batches
from pipeline.devices import autocast
from pipeline.models.hidden_states import cls_states
from pipeline.models.load import load_classifier, load_tokenizer

Array = np.ndarray[Any, Any]

HELD_BYTES = 1 << 26  # of outputs that wait on their device


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A fine-tuned classifier on its device, in eval mode, with its tokenizer."""

    name: str
    """As given: a folder or a hub id."""
    model: Any
    tokenizer: Any
    device: torch.device
    compute: str
    """float32 or bfloat16."""
    output_order: tuple[int, ...]
    """Task class k is the teacher's output output_order[k]."""

    @property
    def layers(self) -> int:
        """N: blocks of the encoder."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Width of a hidden state."""
        return int(self.model.config.hidden_size)

    @cached_property
    def _order_K(self) -> Tensor:  # a list would travel to the device with every batch
        return torch.tensor(self.output_order, device=self.device)

    @torch.inference_mode()
    def __call__(self, inputs: dict[str, Any], layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Logits in the task's order and [CLS] of `layers`: (B, K) and (B, L, H) float32."""
        with autocast(self.device, self.compute):
            output = self.model(**inputs, output_hidden_states=True)
        logits_BK = output.logits.float()[:, self._order_K]
        return logits_BK, cls_states(output.hidden_states, layers).float()


def load_teacher(
    name: str, *, device: torch.device, compute: str, output_order: tuple[int, ...] | None = None
) -> Teacher:
    """Load a classifier and its tokenizer; raises ModelError."""
    tokenizer = load_tokenizer(name)
    model = load_classifier(name).to(device)
    order = output_order or tuple(range(model.config.num_labels))
    return Teacher(
        name=name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        compute=compute,
        output_order=order,
    )


def run_rows(
    teacher: Teacher,
    rows: Rows,
    chosen: Sequence[int],
    layers: tuple[int, ...],
    batch_tokens: int,
    on_batch: Callable[[int, int], None] | None = None,
    only: set[int] | None = None,
) -> tuple[Array, Array]:
    """Run the teacher over some rows, in batches of similar length.

    The batches depend on `chosen` alone, never on who computes them, so that the same shard has the
    same bits in any process.

    Args:
        teacher: see `load_teacher`.
        rows: the split.
        chosen: row numbers.
        layers: teacher layers, from 1.
        batch_tokens: budget of a batch, padding included.
        on_batch: told the rows and tokens of each finished batch.
        only: batches without any of these rows are left out.

    Returns:
        logits (len(chosen), K) and [CLS] (len(chosen), L, H), float32, in the order of `chosen`;
        NaN in rows that were left out.
    """
    lengths: list[int] = rows.lengths_N.cpu()[torch.as_tensor(chosen, dtype=torch.int64)].tolist()
    found = _Found(len(lengths), len(teacher.output_order), len(layers), teacher.hidden_size)
    batches = [
        batch
        for batch in token_budget_batches(lengths, batch_tokens)
        if only is None or not only.isdisjoint(chosen[row] for row in batch)
    ]
    there = on_device(
        [torch.tensor([chosen[row] for row in batch]) for batch in batches], rows.ids_T.device
    )
    for batch, rows_B in zip(batches, there, strict=True):
        inputs = rows.batch(rows_B, max(lengths[row] for row in batch))
        inputs = {name: tensor.to(teacher.device) for name, tensor in inputs.items()}
        found.add(batch, *teacher(inputs, layers))
        if on_batch:
            on_batch(len(batch), sum(lengths[row] for row in batch))
    return found.all()


class _Found:
    """Outputs by row; they leave the device many batches at a time, so that it never waits."""

    def __init__(self, rows: int, outputs: int, layers: int, hidden: int) -> None:
        self.logits = np.full((rows, outputs), np.nan, np.float32)
        self.cls = np.full((rows, layers, hidden), np.nan, np.float32)
        self._rows: list[int] = []
        self._held: list[tuple[Tensor, Tensor]] = []
        self._bytes = 0

    def add(self, batch: list[int], logits_BK: Tensor, cls_BLH: Tensor) -> None:
        """Take note of the outputs of some rows."""
        self._rows += batch
        self._held.append((logits_BK, cls_BLH))
        self._bytes += cls_BLH.nbytes
        if self._bytes > HELD_BYTES:
            self._fetch()

    def all(self) -> tuple[Array, Array]:
        """Everything that was added: logits, [CLS]."""
        if self._held:
            self._fetch()
        return self.logits, self.cls

    def _fetch(self) -> None:
        logits, cls = (torch.cat(parts).cpu().numpy() for parts in zip(*self._held, strict=True))
        self.logits[self._rows], self.cls[self._rows] = logits, cls
        self._rows, self._held, self._bytes = [], [], 0


@dataclass(frozen=True)
class LiveTargets:
    """Targets from the teacher itself, batch by batch: what a cache replaces.

    Has the interface of `pipeline.student.targets.CachedTargets`; the tests and benchmarks compare
    the two.
    """

    teacher: Teacher
    layers: tuple[int, ...]

    def __call__(self, _: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(B, K) logits and (B, L, H) [CLS] of a training batch."""
        logits_BK, cls_BLH = self.teacher(inputs, self.layers)
        return logits_BK.clone(), cls_BLH.clone()  # inference tensors cannot enter autograd
