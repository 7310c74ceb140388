"""The parts of the suite, in the order in which they run."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.setting import Setting

# module and function: what one part needs is not imported for another
PARTS = {
    "padding": "benchmarks.padding:measure_padding",
    "startup": "benchmarks.startup:measure_startup",
    "first-step": "benchmarks.first_step:measure_first_step",
    "loading": "benchmarks.build:measure_loading",
    "steps": "benchmarks.steps:measure_steps",
    "floor": "benchmarks.repeated:measure_floor",
    "shares": "benchmarks.shares:measure_shares",
    "arithmetic": "benchmarks.arithmetic:measure_arithmetic",
    "memory": "benchmarks.memory:measure_memory",
    "build": "benchmarks.build:measure_build",
    "build-pieces": "benchmarks.repeated:measure_build_pieces",
    "sweep": "benchmarks.sweep:measure_sweep",
}
LONG = ("sweep",)  # on a processor most of an hour
OURS = ("benchmarks", "pipeline", "stages")


def usual_parts(setting: Setting) -> list[str]:
    """Those that run where none is named: all, but the long ones on a processor."""
    short = setting.quick or setting.device.type == "cuda"
    return [name for name in PARTS if short or name not in LONG]


def run_part(name: str, setting: Setting) -> dict[str, Any]:
    """What a part found and its seconds; or `missing`, where a library is not installed."""
    module, _, function = PARTS[name].partition(":")
    start = time.monotonic()
    try:
        measure: Callable[[Setting], Any] = getattr(import_module(module), function)
        found = {"found": measure(setting)}
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in OURS:
            raise
        found = {"missing": f"{error.name} is not installed"}
    return found | {"seconds": round(time.monotonic() - start, 1)}
