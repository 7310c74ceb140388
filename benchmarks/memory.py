"""Peak memory of training from the cache against plain fine-tuning: a process for each."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import WAYS, Ring, loop_of, ring_of
from benchmarks.lengths import all_lengths
from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY
from benchmarks.turns import in_turn

CONTENDERS = ("finetune", "finetune-cls", "cache-skip", "live-skip")
TASK, STUDENT_LAYERS = "rte", 3
ROOT = Path(__file__).parent.parent


def measure_memory(setting: Setting) -> dict[str, Any]:
    """Smallest peak of several processes each, in turn; and what the cached layers take of it."""
    found: dict[str, list[dict[str, int]]] = {name: [] for name in CONTENDERS}
    for _ in range(1 if setting.quick else 2):
        for name in CONTENDERS:
            setting.tell(f"peak memory, {name}")
            found[name].append(_in_a_process(name, setting))
    return {
        "task": TASK, "teacher_layers": 12, "student_layers": STUDENT_LAYERS,
        "batch_size": _batch_size(setting), "precision": setting.precision,
        "contenders": {
            name: {
                "peaks": sorted(run["peak"] for run in runs),
                "peak": min(run["peak"] for run in runs), "cached": runs[0]["cached"],
            }
            for name, runs in found.items()
        },
    }  # fmt: skip


def _in_a_process(name: str, setting: Setting) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory", name, setting.device.type]
    result = subprocess.run(
        [*command, *(["--quick"] if setting.quick else [])],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, int] = json.loads(result.stdout.splitlines()[-1])
    return found


def _batch_size(setting: Setting) -> int:
    return 32 if setting.device.type == "cuda" else 16


def peak_of(name: str, setting: Setting) -> dict[str, int]:
    """Peak bytes of a few steps in this process, and the bytes of cached layers in them."""
    teacher = TINY if setting.quick else BASE
    student, size = teacher.cut(STUDENT_LAYERS), _batch_size(setting)
    with ring_of(setting, TASK, all_lengths(TASK), teacher, student, size) as ring:
        steps = 20 if setting.device.type == "cuda" else 2
        in_turn({name: loop_of(ring, WAYS[name])}, steps, 0, setting.device)
        return {"peak": _peak_bytes(setting.device), "cached": _cached_bytes(ring, name)}


def _cached_bytes(ring: Ring, name: str) -> int:
    if WAYS[name].teacher != "cache":
        return 0
    layers = ring.strategy(ring.params(WAYS[name])).teacher_layers
    return len(ring.lengths_N) * (2 * len(layers) * ring.teacher.hidden + 4 * 2)


def _peak_bytes(device: torch.device) -> int:
    """Of the device's allocator, or the largest resident memory of this program.

    `getrusage` would not do: a process begins with the peak of the one that started it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text("utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print what one contender took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("device")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    setting = Setting(device=torch.device(given.device), quick=given.quick)
    print(json.dumps(peak_of(given.contender, setting)))


if __name__ == "__main__":
    main()
