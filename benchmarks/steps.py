"""Seconds of a training step, contenders in turn: A B C A B C ..., on the lengths of real tasks."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import WAYS, Ring, loop_of, ring_of, spread_lengths
from benchmarks.lengths import GLUE, all_lengths
from benchmarks.setting import Setting
from benchmarks.shapes import BASE, LARGE, TINY, TINY_LARGE, Shape
from benchmarks.summary import Measured, summary
from benchmarks.turns import Loop, in_turn, step_clock
from pipeline import machine

ALL = tuple(WAYS)
LARGE_WAYS = ("finetune", "finetune-cls", "cache-kd", "cache-skip", "live-kd", "live-skip")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A teacher, a student, a task, and who competes."""

    task: str
    teacher: Shape
    student_layers: int
    ways: tuple[str, ...]
    batch_size: int = 32
    rounds: int = 40
    warm_up: int = 10

    @property
    def student(self) -> Shape:
        """As wide as bert-base, whatever the teacher's width."""
        narrow = TINY if self.teacher.name.startswith("tiny") else BASE
        return narrow.cut(self.student_layers)


def cases(setting: Setting) -> list[Case]:
    """The whole grid on a GPU; a part of it on a processor, where a step takes seconds."""
    if setting.quick:
        return [
            Case(task="rte", teacher=TINY, student_layers=3, ways=ALL, batch_size=4, rounds=3,
                 warm_up=1),
            Case(task="sst2", teacher=TINY_LARGE, student_layers=6, ways=LARGE_WAYS, batch_size=4,
                 rounds=3, warm_up=1),
        ]  # fmt: skip
    if setting.device.type == "cuda":
        return [
            Case(task=task, teacher=teacher, student_layers=depth, ways=ways)
            for task in GLUE
            for teacher, ways in ((BASE, ALL), (LARGE, LARGE_WAYS))
            for depth in (3, 6)
        ]
    return _on_a_processor()


def _on_a_processor() -> list[Case]:
    same = ("finetune", "finetune-cls", "cache-skip", "live-skip")
    textbrewer = ("textbrewer", "textbrewer-random")
    chosen = [
        ("rte", BASE, 3, (*same, "live-skip-cls", "textbrewer"), 16, 10),
        ("sst2", BASE, 3, (*same, *textbrewer, "2019"), 32, 6),
        ("mrpc", BASE, 3, same, 16, 4),
        ("cola", BASE, 3, same, 32, 4),
        ("rte", BASE, 6, same, 16, 4),
        ("rte", LARGE, 6, LARGE_WAYS, 16, 4),
    ]
    return [
        Case(task=task, teacher=teacher, student_layers=depth, ways=ways, batch_size=size,
             rounds=rounds, warm_up=1)
        for task, teacher, depth, ways, size, rounds in chosen
    ]  # fmt: skip


def measure_steps(setting: Setting) -> list[dict[str, Any]]:
    """All cases, one after the other."""
    found = []
    for case in cases(setting):
        setting.tell(f"{case.task}, {case.teacher.text} to {case.student_layers}")
        found.append(measure_case(case, setting))
        gc.collect()
    return found


def measure_case(case: Case, setting: Setting) -> dict[str, Any]:
    """Medians and spread of every contender of a case."""
    count = case.rounds + case.warm_up
    lengths = spread_lengths(all_lengths(case.task), case.batch_size, count)
    shapes = case.teacher, case.student
    with ring_of(setting, case.task, lengths, *shapes, case.batch_size) as ring:
        loops, missing = _loops(ring, case.ways, setting)
        seconds = in_turn(
            loops, case.rounds, case.warm_up, setting.device, step_clock(setting.device)
        )
    measured: dict[str, Measured] = {
        name: missing[name]
        if name in missing
        else summary(seconds[name]) | {"steps": [round(each, 5) for each in seconds[name]]}
        for name in case.ways
        if name in seconds or name in missing
    }
    return {
        "task": case.task, "teacher": case.teacher.name, "teacher_layers": case.teacher.layers,
        "student_layers": case.student_layers, "batch_size": case.batch_size,
        "precision": setting.precision, "tokens_a_step": float(lengths.sum()) / count,
        "clock": step_clock(setting.device).__name__, "load": machine.load(),
        "contenders": measured,
    }  # fmt: skip


def _loops(
    ring: Ring, ways: tuple[str, ...], setting: Setting
) -> tuple[dict[str, Loop], dict[str, Measured]]:
    loops: dict[str, Loop] = {}
    missing: dict[str, Measured] = {}
    for name in ways:
        if name == "cache-skip-float32" and setting.precision == "float32":
            continue  # it would be the contender before it once more
        try:
            loops[name] = loop_of(ring, WAYS[name])
        except ModuleNotFoundError as error:
            missing[name] = {"missing": f"{error.name} is not installed"}
    return loops, missing
