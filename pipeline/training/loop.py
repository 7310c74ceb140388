"""The training loop of teachers and students alike, on accelerate; it knows of no cache.

Shapes: B rows in a batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.batches import Rows, on_device, training_batches
from pipeline.devices import autocast, pick_precision
from pipeline.errors import TrainingError
from pipeline.models.inputs import first_position
from pipeline.params import FitParams
from pipeline.training.checkpoints import Progress, finish_epoch, load_best, restore
from pipeline.training.joint import Shares
from pipeline.workers import Workers

# BERT's own, and that of the PKD code. At torch's 1e-8 the key biases, whose true gradient is 0,
# take full steps in the direction of rounding errors.
ADAM_EPSILON = 1e-6
LOG_EVERY = 10  # steps between two reads of the losses from the device

Scores = dict[str, dict[str, float]]
Terms = Callable[[dict[str, Any], Tensor, Tensor], dict[str, Tensor]]
"""(model inputs, row numbers (B,), labels (B,)) -> weighted loss terms by name."""


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """What a step tells."""

    step: int
    """Counted from 1 over all epochs."""
    steps: int
    epoch: int
    losses: dict[str, float]
    """Weighted terms, and their sum as `total`."""
    learning_rate: float
    rows: int
    """Seen since this command started, by all processes."""
    tokens: int
    """Likewise, without padding."""


def train(
    model: Any,
    rows: Rows,
    terms: Terms,
    evaluate: Callable[[], Scores],
    settings: FitParams,
    state: Path,
    *,
    device: torch.device,
    resume: bool,
    on_step: Callable[[StepLog], None],
    on_epoch: Callable[[dict[str, Any]], None],
    workers: Workers | None = None,
) -> Progress:
    """Train `model` in place and leave it with the weights of its best epoch, or its last.

    Args:
        model: a `transformers` classifier, within `pipeline.models.running.as_trained`.
        rows: training rows, on `device`.
        terms: one forward pass and its weighted losses; their sum is minimised. A module's own
            parameters are trained too, its state is part of checkpoints, its `start_epoch` is
            called before every epoch, and its `prefetch` before every step.
        evaluate: scores by split; the first metric of the first split chooses the best epoch,
            the earlier one when equal.
        settings: epochs, batch size, learning rate and the like; `keep` says whose weights stay.
        state: folder of the checkpoint, which is written after every epoch.
        device: where to train.
        resume: go on from the checkpoint in `state`, if there is one.
        on_step: told of the first step and every `LOG_EVERY`-th.
        on_epoch: told of every finished epoch's record.
        workers: processes that share every batch; the batch size is that of all together.

    Raises:
        TrainingError: a loss that is not finite; no later step is taken from it on a CPU.
        ParamsError: several workers, and terms that keep a state of the rows that they see.
    """
    workers = workers or Workers()
    accelerator = make_accelerator(device)
    precision = pick_precision(settings.precision, device)
    usable = usable_rows(rows, terms)
    lengths = rows.lengths_N.cpu()[usable]
    steps_per_epoch = math.ceil(len(usable) / settings.batch_size)
    learnt = terms if isinstance(terms, nn.Module) else nn.Module()
    together = nn.ModuleList([model, learnt.to(device)])
    shares = Shares(rows, together, learnt, workers)
    optimizer, scheduler = make_optimizer(together, settings, steps_per_epoch * settings.epochs)
    model = accelerator.prepare_model(model, evaluation_mode=True)  # gradients are ours to join
    optimizer, scheduler = accelerator.prepare(optimizer, scheduler)
    if learnt.state_dict():
        accelerator.register_for_checkpointing(learnt)
    torch.manual_seed(settings.seed + workers.index)  # dropout of other rows is another one
    progress = restore(accelerator, state) if resume else Progress()
    meter = _Meter(device, on_step, steps_per_epoch * settings.epochs)
    meter.step = progress.epoch * steps_per_epoch
    prefetch = getattr(terms, "prefetch", None)
    first = first_position(model.config)

    for epoch in range(progress.epoch + 1, settings.epochs + 1):
        start = time.monotonic()
        model.train()
        learnt.train()
        if start_epoch := getattr(terms, "start_epoch", None):
            start_epoch(epoch)
        batches = training_batches(lengths, settings.batch_size, settings.seed, epoch)
        there = on_device([usable[batch] for batch in batches], device)
        for batch, rows_B in zip(batches, there, strict=True):
            if prefetch:
                prefetch(shares.of(usable[batch]))
            here_B = shares.of(rows_B)
            if settings.packed:
                inputs = rows.packed(here_B, lengths[shares.of(batch)], first)
            else:
                inputs = rows.batch(here_B, int(lengths[batch].max()))
            with autocast(device, precision):
                losses = terms(inputs, here_B, rows.labels_N[here_B])
            losses = shares.weighed(losses, usable[batch])
            total = torch.stack(list(losses.values())).sum()
            accelerator.backward(total)
            losses = shares.join(losses | {"total": total})
            if settings.max_grad_norm:
                accelerator.clip_grad_norm_(together.parameters(), settings.max_grad_norm)
            learning_rate = float(scheduler.get_last_lr()[0])
            meter.add(losses, learning_rate, epoch, lengths[batch])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        record = {
            "epoch": epoch,
            "step": meter.step,
            "learning_rate": learning_rate,
            "losses": meter.epoch_means(),
            "scores": evaluate(),
            "seconds": time.monotonic() - start,
        }
        finish_epoch(
            accelerator, model, progress, record, state, keep=settings.keep, workers=workers
        )
        on_epoch(record)
    workers.meet()
    load_best(accelerator, model, state)
    return progress


def usable_rows(rows: Rows, terms: Terms) -> Tensor:
    """(N',) row numbers that teach something, on the CPU.

    All of them where the terms use a teacher (`needs_labels` is False), else those with a label.

    Raises:
        TrainingError: there are none.
    """
    usable = torch.arange(len(rows))
    if getattr(terms, "needs_labels", True):
        usable = usable[rows.labelled_N.cpu()]
    if not len(usable):
        raise TrainingError("No training row has a label, and nothing else is there to learn from.")
    return usable


def make_accelerator(device: torch.device) -> Any:
    """An Accelerator on `device`; the loop casts itself, so that evaluation stays in float32."""
    from accelerate import Accelerator

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        cpu=device.type == "cpu", mixed_precision="no", step_scheduler_with_optimizer=False
    )


def make_optimizer(model: Any, settings: FitParams, steps: int) -> tuple[Any, Any]:
    """AdamW without decay for biases and LayerNorms; linear warm-up, then linear decay to 0."""
    from transformers import get_linear_schedule_with_warmup

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, eps=ADAM_EPSILON, fused=fused)
    warmup = round(steps * settings.warmup)
    return optimizer, get_linear_schedule_with_warmup(optimizer, warmup, steps)


class _Meter:
    """Sums losses on the device; reads them only when they are told."""

    def __init__(
        self, device: torch.device, on_step: Callable[[StepLog], None], steps: int
    ) -> None:
        # reading a CPU tensor costs nothing, so there a bad loss stops the run at once
        self._check_every = 1 if device.type == "cpu" else LOG_EVERY
        self._on_step, self._steps = on_step, steps
        self.step = self._rows = self._tokens = self._count = 0
        self._sums: dict[str, Tensor] = {}

    def add(
        self, losses: Mapping[str, Tensor], learning_rate: float, epoch: int, lengths_B: Tensor
    ) -> None:
        self.step += 1
        self._count += 1
        self._rows += len(lengths_B)
        self._tokens += int(lengths_B.sum())
        losses = {name: value.detach() for name, value in losses.items()}
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0) + value
        told = self._count == 1 or self.step % LOG_EVERY == 0
        if told or self.step % self._check_every == 0:
            self._require_finite(losses)
        if told:
            self._on_step(
                StepLog(
                    step=self.step,
                    steps=self._steps,
                    epoch=epoch,
                    losses={name: float(value) for name, value in losses.items()},
                    learning_rate=learning_rate,
                    rows=self._rows,
                    tokens=self._tokens,
                )
            )

    def epoch_means(self) -> dict[str, float]:
        self._require_finite(self._sums)
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def _require_finite(self, losses: Mapping[str, Tensor]) -> None:
        if not math.isfinite(losses["total"]):
            found = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
            raise TrainingError(
                f"Step {self.step}: the loss is not finite ({found}). Lower --learning-rate, or "
                "try --precision float32."
            )
