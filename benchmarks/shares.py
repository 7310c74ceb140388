"""Where the time of a training step goes: `pipeline.training.loop.train` in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.contenders import WAYS, Ring, as_run_by, ring_of, spread_lengths, terms_of
from benchmarks.lengths import all_lengths
from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY
from benchmarks.summary import summary
from benchmarks.turns import step_clock
from pipeline import machine
from pipeline.batches import training_batches
from pipeline.devices import autocast
from pipeline.training.loop import make_optimizer

STUDENT_LAYERS = 3
# and the batch size on a processor, as in `benchmarks.steps`
TASKS = {"rte": 16, "mrpc": 16, "sst2": 32, "cola": 32}
TEACHER = "teacher forward"  # no part of a step from the cache
PIECES = ("batch", "embeddings", "encoder", "losses", "backward", "clipping", "optimizer")


def measure_shares(setting: Setting) -> list[dict[str, Any]]:
    """Median seconds of the pieces of a step, and their share of a step from the cache."""
    return [_of_task(task, size, setting) for task, size in TASKS.items()]


def _of_task(task: str, batch_size: int, setting: Setting) -> dict[str, Any]:
    cuda = setting.device.type == "cuda"
    rounds, warm_up = (40, 10) if cuda else (3, 1) if setting.quick else (5, 1)
    batch_size = 32 if cuda else batch_size
    teacher = TINY if setting.quick else BASE
    setting.tell(f"pieces of a step, {task}, {teacher.text} to {STUDENT_LAYERS}")
    lengths = spread_lengths(all_lengths(task), batch_size, rounds + warm_up)
    student = teacher.cut(STUDENT_LAYERS)
    with ring_of(setting, task, lengths, teacher, student, batch_size) as ring:
        laps = _timed_steps(ring)[warm_up:]
    pieces = {name: summary([lap[name] for lap in laps]) for name in (*PIECES, TEACHER)}
    whole = sum(pieces[name]["sum"] for name in PIECES)
    return {
        "task": task, "teacher": teacher.name, "teacher_layers": teacher.layers,
        "student_layers": STUDENT_LAYERS, "batch_size": batch_size, "precision": setting.precision,
        "load": machine.load(), "pieces": pieces,
        "shares": {name: measured["sum"] / whole for name, measured in pieces.items()},
    }  # fmt: skip


def _timed_steps(ring: Ring) -> list[dict[str, float]]:
    """Seconds by piece of every step of an epoch with strategy skip."""
    way, params = WAYS["cache-skip"], ring.params(WAYS["cache-skip"])
    model = ring.student.classifier(ring.device).train()
    terms = terms_of(ring, way, model)
    live = ring.live(terms.strategy.teacher_layers, WAYS["live-skip"])
    batches = training_batches(ring.lengths_N, ring.batch_size, seed=0, epoch=1)
    optimizer, scheduler = make_optimizer(model, params, len(batches))
    clock = _Clock(ring.device)
    clock.follow(model)
    laps = []
    for batch in batches:
        rows_B = batch.to(ring.device)
        clock.start()
        inputs = ring.rows.batch(rows_B, int(ring.lengths_N[batch].max()))
        clock.lap("batch")
        with autocast(ring.device, params.precision), as_run_by(ring, way, model):
            losses = terms(inputs, rows_B, ring.rows.labels_N[rows_B])
        total = torch.stack(list(losses.values())).sum()
        clock.lap("losses")  # the rest of it: the model's parts are told by hooks
        total.backward()
        clock.lap("backward")
        torch.nn.utils.clip_grad_norm_(model.parameters(), params.max_grad_norm)
        clock.lap("clipping")
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        clock.lap("optimizer")
        live(rows_B, inputs)
        clock.lap(TEACHER)
        laps.append(clock.laps)
    return laps


class _Clock:
    """Laps of a step by name; two of one name are one."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._clock = device, step_clock(device)
        self.laps: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin a step."""
        self.laps, self._last = {}, self._now()

    def lap(self, name: str) -> None:
        """What was done since the lap before."""
        now = self._now()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now

    def follow(self, model: Any) -> None:
        """Tell the embeddings and the rest of a model apart."""
        model.register_forward_pre_hook(self._hook("losses"))
        model.base_model.embeddings.register_forward_hook(self._hook("embeddings"))
        model.register_forward_hook(self._hook("encoder"))

    def _hook(self, name: str) -> Callable[..., None]:
        return lambda *_: self.lap(name)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()
