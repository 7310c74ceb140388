"""What single runs scatter too much for: one step against the same step, and what a build adds."""

from __future__ import annotations

import cProfile
import gc
import pstats
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.build import LENGTHS
from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY
from benchmarks.steps import cases, measure_case
from benchmarks.world import make_world
from pipeline import machine

FLOOR = ("finetune-cls", "cache-skip")
PASS, AGAIN, REST = "pass", "again", "rest"

# function that does a piece, and the one that calls it
PIECES = {
    PASS: ("run_rows", "_fill_own"),
    AGAIN: ("run_rows", "_errors"),
    "load": ("_load", "build_cache"),
    "tokens": ("_add", "all_splits"),
    "encode": ("encode_cls", "_fill_own"),
}


def measure_floor(setting: Setting) -> dict[str, Any]:
    """Steps from the cache and of fine-tuning, both with the last block at [CLS] alone.

    The models are made anew several times: where in memory they come to lie makes one faster than
    the other by some percent, for as long as they are there.
    """
    sittings, rounds = (2, 2) if setting.quick else (5, 4)
    first = cases(setting)[0]
    case = replace(first, ways=FLOOR, rounds=rounds if first.rounds < 40 else first.rounds)
    found = []
    for number in range(sittings):
        setting.tell(f"step against step, {number + 1} of {sittings}")
        measured = measure_case(case, setting)
        found.append({way: measured["contenders"][way]["steps"] for way in FLOOR})
        gc.collect()
    return {
        "task": case.task, "student": case.student.text, "batch_size": case.batch_size,
        "precision": setting.precision, "clock": measured["clock"], "load": machine.load(),
        "sittings": found,
    }  # fmt: skip


def measure_build_pieces(setting: Setting) -> dict[str, Any]:
    """Where the time of a build goes, that of the thread that writes apart; of one run."""
    rows = {"train": 40, "dev": 20} if setting.quick else {"train": 6000, "dev": 872}
    teacher = TINY if setting.quick else BASE
    setting.tell(f"pieces of a build of {rows['train']} rows, {teacher.text}")
    clock = time.perf_counter if setting.device.type == "cuda" else time.thread_time
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder) / "world", LENGTHS, rows, teacher, TINY)
        profile = cProfile.Profile(clock)
        start = clock()
        profile.runcall(world.build, Path(folder) / "c.zarr", setting.device)
        total = clock() - start
    stats = pstats.Stats(profile)
    pieces = {name: _seconds(stats, *pair) for name, pair in PIECES.items()}
    return {
        "rows": rows, "teacher": teacher.text, "clock": clock.__name__, "load": machine.load(),
        "pieces": pieces | {REST: total - sum(pieces.values())}, "total": total,
    }  # fmt: skip


def _seconds(stats: Any, function: str, caller: str) -> float:
    """Within one function as called by another, all that it calls included."""
    found = [
        spent[3]
        for (_, _, name), (*_, callers) in stats.stats.items()
        for (_, _, called_by), spent in callers.items()
        if (name, called_by) == (function, caller)
    ]
    assert found, f"{caller} never called {function}"
    return float(sum(found))
