"""From the start of a command to its first training step: `pkd-student fit`, and a bare script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY
from benchmarks.summary import summary
from benchmarks.world import World, make_world
from pipeline import machine
from pipeline.timing import Rounds, take_turns

WARM_UP = 1
LAYERS = 3
BATCH = 4  # rows: the first step is to say when training begins, not how long a step takes
PATIENCE = 600.0  # seconds
POLL = 0.005

SCRIPT = """
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

encoder, text, layers, rows, device, done = sys.argv[1:]
lines = Path(text).read_text("utf-8").splitlines()[1 : 1 + int(rows)]
texts, labels = zip(*(line.split("\\t") for line in lines))
tokenizer = AutoTokenizer.from_pretrained(encoder)
model = AutoModelForSequenceClassification.from_pretrained(encoder, num_hidden_layers=int(layers))
model.to(device).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)
inputs = tokenizer(list(texts), padding=True, return_tensors="pt").to(device)
model(**inputs, labels=torch.tensor([int(each) for each in labels], device=device)).loss.backward()
optimizer.step()
Path(done).touch()
"""
"""The least that fine-tunes: the same libraries, model and rows, and no care for anything."""


def measure_first_step(setting: Setting) -> dict[str, Any]:
    """Wall seconds until the first step is done: for `fit`, until it is in its log."""
    shape = TINY if setting.quick else BASE
    rows = {"train": 40, "dev": 20} if setting.quick else {"train": 2490, "dev": 277}  # RTE's
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        world = make_world(root / "world", "rte", rows, TINY, shape)
        world.build(root / "c.zarr", setting.device)
        starts = {
            "fit": partial(_fit, root, world, setting),
            "script": partial(_script, root, world, setting),
        }
        setting.tell(f"first step of a student of {shape.cut(LAYERS).text}")
        rounds = Rounds.exactly(WARM_UP + (1 if setting.quick else 5))
        seconds = take_turns(starts, rounds, "first step")
    return {
        "rows": rows["train"], "batch_size": BATCH, "student": shape.cut(LAYERS).text,
        "load": machine.load(),
        "contenders": {name: summary(each[WARM_UP:]) for name, each in seconds.items()},
    }  # fmt: skip


def _fit(root: Path, world: World, setting: Setting) -> float:
    with tempfile.TemporaryDirectory(dir=root) as folder:
        program = Path(sys.executable).with_name("pkd-student")
        command = [
            str(program), "fit", "--cache", str(root / "c.zarr"), "--init", str(world.encoder),
            "--strategy", "kd", "--student-layers", str(LAYERS), "--batch-size", str(BATCH),
            "--device", setting.device.type, "--out", f"{folder}/student",
        ]  # fmt: skip
        return seconds_until(
            command, Path(folder), lambda: any(Path(folder).rglob("dvclive/**/*.tsv"))
        )


def _script(root: Path, world: World, setting: Setting) -> float:
    with tempfile.TemporaryDirectory(dir=root) as folder:
        done = Path(folder) / "done"
        text = world.raw.parent / "text" / "train.tsv"
        command = [
            sys.executable, "-c", SCRIPT, str(world.encoder), str(text), str(LAYERS), str(BATCH),
            setting.device.type, str(done),
        ]  # fmt: skip
        return seconds_until(command, Path(folder), done.exists)


def seconds_until(command: list[str], folder: Path, is_done: Callable[[], bool]) -> float:
    """Seconds from the start of a command until `is_done`; the command is then ended."""
    start = time.perf_counter()
    with (folder / "output").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output,
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, start_new_session=True,
        )  # fmt: skip
    try:
        while not is_done():
            failed = process.poll() not in (None, 0)
            if failed or time.perf_counter() - start > PATIENCE:
                told = (folder / "output").read_text("utf-8")
                raise RuntimeError(f"{command[0]}: no first step\n{told}")
            time.sleep(POLL)
        return time.perf_counter() - start
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
