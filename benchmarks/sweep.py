"""A grid of students: one `pkd-student sweep` against a `pkd-student fit` for each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting
from benchmarks.shapes import TINY, Shape
from benchmarks.world import World, make_world
from pipeline import machine

ROOT = Path(__file__).parent.parent
MINILM = Shape(name="MiniLM", layers=6, hidden=384, heads=12)
LENGTHS = "rte"
SINGLE = 4


def measure_sweep(setting: Setting) -> dict[str, Any]:
    """Seconds of both; the sweep runs between the two halves of the single commands.

    Those differ in two factors of the loss alone, so `SINGLE` of them are run, and count for all.
    """
    points, rows, epochs = _size(setting)
    setting.tell(f"{len(points)} students of {rows['train']} rows, one by one and in a sweep")
    teacher = TINY if setting.quick else MINILM
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        world = make_world(root / "world", LENGTHS, rows, teacher, teacher)
        world.build(root / "c.zarr", setting.device)
        common = _options(world, root / "c.zarr", epochs, setting)
        singles = points[:: max(1, len(points) // SINGLE)]
        half = len(singles) // 2
        fits = [_fit(root, common, *point) for point in singles[:half]]
        swept = _sweep(root, common, points)
        fits += [_fit(root, common, *point) for point in singles[half:]]
    return {
        "students": len(points), "rows": rows, "epochs": epochs, "student": teacher.cut(3).text,
        "single": fits, "fits": len(points) * sum(fits) / len(fits), "sweep": swept,
        "device": setting.device.type, "load": machine.load(),
    }  # fmt: skip


def _size(setting: Setting) -> tuple[list[tuple[int, int]], dict[str, int], int]:
    if setting.quick:
        return [(5, 10), (10, 10)], {"train": 40, "dev": 20}, 1
    rows = {"train": 2490, "dev": 277}  # RTE's
    return list(product((5, 10, 20), (10, 50, 100, 500))), rows, 3


def _options(world: World, cache: Path, epochs: int, setting: Setting) -> list[str]:
    return [
        "--cache", str(cache), "--init", str(world.encoder), "--strategy", "skip",
        "--student-layers", "3", "--epochs", str(epochs), "--device", setting.device.type,
    ]  # fmt: skip


def _fit(root: Path, common: list[str], temperature: int, beta: int) -> float:
    out = str(root / f"fit-{temperature}-{beta}")
    more = ["--temperature", str(temperature), "--beta", str(beta), "--out", out]
    return _seconds(root, ["fit", *common, *more])


def _sweep(root: Path, common: list[str], points: list[tuple[int, int]]) -> float:
    sides = (sorted({point[side] for point in points}) for side in (0, 1))
    temperatures, betas = (",".join(map(str, side)) for side in sides)
    sets = ["--set", f"temperature={temperatures}", "--set", f"beta={betas}"]
    return _seconds(root, ["sweep", *common, *sets])


def _seconds(root: Path, words: list[str]) -> float:
    """Of a command, from its start to its end, with the threads that it takes by itself."""
    command = [sys.executable, "-m", "stages.student", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment.pop("OMP_NUM_THREADS", None)  # one core alone would make the single fits too slow
    start = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)
    return time.perf_counter() - start
