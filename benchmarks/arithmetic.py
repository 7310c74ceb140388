"""The models' arithmetic against what the device's matrix units reach: how much is left to gain.

Operations are counted by torch's own counter while the very steps that are timed run once more:
matrix products and attention, forward and backward. What the last block leaves out is not counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders import WAYS, Ring, Way, loop_of, ring_of, spread_lengths
from benchmarks.lengths import all_lengths, rows_of
from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY, Shape
from benchmarks.turns import in_turn
from pipeline import machine
from pipeline.batches import spread_rows, token_budget_batches
from pipeline.devices import autocast
from pipeline.models.running import as_run
from pipeline.params import CacheParams
from pipeline.timing import seconds_of

TASK, WAY = "rte", "cache-skip"
DEPTHS = (3, 6)


def measure_arithmetic(setting: Setting) -> dict[str, Any]:
    """Operations a second of the bare matrix product, of stage one and of stage two."""
    setting.tell("arithmetic")
    teacher = TINY if setting.quick else BASE
    stage_two = [
        _stage_two(teacher, depth, size, setting)
        for depth in DEPTHS
        for size in _batch_sizes(setting)
    ]
    return {
        "task": TASK, "device": setting.device.type, "precision": setting.precision,
        "teacher": teacher.name, "load": machine.load(), "peak": matrix_peak(setting),
        "stage_one": _stage_one(teacher, setting), "stage_two": stage_two,
    }  # fmt: skip


def _batch_sizes(setting: Setting) -> tuple[int, ...]:
    """Rows: 256 of RTE are 17,000 tokens."""
    if setting.quick:
        return (4,)
    return (32, 256) if _on_cuda(setting) else (16,)


def matrix_peak(setting: Setting) -> float:
    """Operations a second of a large square matrix product, the best of several."""
    side = 64 if setting.quick else 8192 if _on_cuda(setting) else 2048
    kind = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
    one, other = (torch.randn(side, side, dtype=kind, device=setting.device) for _ in range(2))
    seconds = [seconds_of(lambda: one @ other, setting.device) for _ in range(10)]
    return 2 * side**3 / min(seconds)


def _stage_one(teacher: Shape, setting: Setting) -> dict[str, Any]:
    """The teacher over the batches of a build."""
    model = teacher.classifier(setting.device).eval()
    every = all_lengths(TASK)
    wanted = 8 if setting.quick else len(every) if _on_cuda(setting) else 128
    lengths = every[spread_rows(len(every), wanted)]
    rows = rows_of(lengths, teacher.vocabulary).to(setting.device)
    batches = token_budget_batches(lengths.tolist(), CacheParams().batch_tokens)
    inputs = [
        rows.batch(torch.tensor(b, device=setting.device), int(lengths[b].max())) for b in batches
    ]

    @torch.inference_mode()
    def run() -> None:
        with as_run(model, setting.device), autocast(setting.device, setting.precision):
            for each in inputs:
                model(**each, output_hidden_states=True)

    with FlopCounterMode(display=False) as counter:
        run()
    rate = counter.get_total_flops() / min(seconds_of(run, setting.device) for _ in range(3))
    return {"layers": teacher.layers, "tokens": float(lengths.sum()) / len(batches), "rate": rate}


def _stage_two(teacher: Shape, depth: int, batch_size: int, setting: Setting) -> dict[str, Any]:
    """Steps of `pipeline.training.loop.train` itself."""
    rounds, warm_up = (20, 5) if _on_cuda(setting) else (3, 1)
    lengths = spread_lengths(all_lengths(TASK), batch_size, _steps_of(batch_size, rounds + warm_up))
    with ring_of(setting, TASK, lengths, teacher, teacher.cut(depth), batch_size) as ring:
        steps = len(lengths) // batch_size
        operations = operations_of_steps(ring, WAYS[WAY], steps)
        seconds = in_turn({WAY: loop_of(ring, WAYS[WAY])}, steps - warm_up, warm_up, setting.device)
    return {
        "layers": depth, "batch_size": batch_size, "tokens": float(lengths.sum()) / steps,
        "rate": sum(operations[warm_up:]) / sum(seconds[WAY]),
    }  # fmt: skip


def _steps_of(batch_size: int, wanted: int) -> int:
    """No more than the task has."""
    return min(wanted, len(all_lengths(TASK)) // batch_size)


def operations_of_steps(ring: Ring, way: Way, steps: int) -> list[int]:
    """Counted operations of each of the first steps of an epoch."""
    totals: list[int] = []

    def loop(wait: Callable[[], None]) -> None:
        with FlopCounterMode(display=False) as counter:

            def told() -> None:
                totals.append(counter.get_total_flops())
                wait()

            loop_of(ring, way)(told)

    in_turn({way.text: loop}, steps, 0, ring.device)
    return [after - before for before, after in itertools.pairwise(totals)]


def _on_cuda(setting: Setting) -> bool:
    return setting.device.type == "cuda"
