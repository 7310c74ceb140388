"""Stage one against the teacher alone on the same batches; and the loading of a cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.setting import Setting
from benchmarks.shapes import BASE, TINY, Shape
from benchmarks.summary import summary
from benchmarks.world import TASK, World, make_world
from pipeline import machine
from pipeline.batches import Rows, token_budget_batches
from pipeline.models.running import as_run
from pipeline.params import CacheParams
from pipeline.teacher.forward import Teacher, load_teacher
from pipeline.timing import Rounds, seconds_of, take_turns

LENGTHS = "sst2"


def measure_build(setting: Setting) -> dict[str, Any]:
    """Seconds of whole builds, of their pass over the training rows, and of the bare teacher."""
    teacher, rows, rounds = _size(setting)
    setting.tell(f"build of {rows['train']} rows, {teacher.text}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        world = make_world(root, LENGTHS, rows, teacher, TINY)
        loaded = load_teacher(str(world.teacher), device=setting.device, compute="float32")
        splits = {name: _rows(world, name, loaded) for name in world.prepared.splits}
        for at_cls in (False, True):
            _bare(loaded, splits["validation"], at_cls=at_cls)  # warm-up
        found = [_one_round(world, root / f"{n}", loaded, splits, setting) for n in range(rounds)]
    return {
        "task": LENGTHS, "rows": rows, "teacher": teacher.text, "load": machine.load(),
        "tokens": {name: int(split.lengths_N.sum()) for name, split in splits.items()},
        "contenders": {name: summary([each[name] for each in found]) for name in found[0]},
    }  # fmt: skip


def _size(setting: Setting) -> tuple[Shape, dict[str, int], int]:
    if setting.quick:
        return TINY, {"train": 40, "dev": 20}, 1
    if setting.device.type == "cuda":
        return BASE, {"train": 67349, "dev": 872}, 2
    return BASE, {"train": 6000, "dev": 872}, 1  # four minutes each


def _one_round(
    world: World, out: Path, teacher: Teacher, splits: dict[str, Rows], setting: Setting
) -> dict[str, float]:
    bare, bare_cls = (
        {name: _bare(teacher, rows, at_cls=at_cls) for name, rows in splits.items()}
        for at_cls in (False, True)
    )
    built = world.build(out, setting.device)
    return {
        "bare": sum(bare.values()), "bare-train": bare["train"],
        "bare-cls": sum(bare_cls.values()), "bare-cls-train": bare_cls["train"],
        "build": built.seconds, "build-train": built.train_pass_seconds or 0.0,
    }  # fmt: skip


def _rows(world: World, split: str, teacher: Teacher) -> Rows:
    from pipeline.models.encode import encode
    from pipeline.tasks import BUILT_IN

    table = world.prepared.table(split)
    examples = encode(table, BUILT_IN[TASK], teacher.tokenizer, 128)
    return Rows.from_examples(examples, teacher.tokenizer.pad_token_id).to(teacher.device)


def _bare(teacher: Teacher, rows: Rows, *, at_cls: bool) -> float:
    """Seconds of forward passes over the batches of a build, and of nothing else.

    Args:
        teacher: ready to run.
        rows: of a split.
        at_cls: whether its last block is computed at [CLS] alone, as a build does.
    """
    layers = tuple(range(1, teacher.layers + 1))
    start = time.perf_counter()
    with as_run(teacher.model, teacher.device) if at_cls else nullcontext():
        for batch, longest in _batches(rows):
            teacher(rows.batch(batch.to(teacher.device), longest), layers)
    if teacher.device.type == "cuda":
        torch.cuda.synchronize(teacher.device)
    return time.perf_counter() - start


def _batches(rows: Rows) -> Iterator[tuple[torch.Tensor, int]]:
    params, lengths_N = CacheParams(), rows.lengths_N.cpu()
    for shard in torch.arange(len(rows)).split(params.shard_rows):
        lengths = lengths_N[shard].tolist()
        for batch in token_budget_batches(lengths, params.batch_tokens):
            yield shard[batch], max(lengths[row] for row in batch)


LOADED = {"3 layers, kd": (), "3 layers, skip": (4, 8), "6 layers, skip": (2, 4, 6, 8, 10),
          "all 12 layers": tuple(range(1, 13))}  # fmt: skip


def measure_loading(setting: Setting) -> dict[str, Any]:
    """Seconds from opening a cache of RTE's size to having its targets, for several students."""
    from benchmarks.synthetic import synthetic_cache
    from pipeline.store.reader import TeacherCache
    from pipeline.student.targets import load_targets

    rows, hidden = (50, 16) if setting.quick else (2490, 768)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.zarr"
        synthetic_cache(path, rows=rows, layers=12, hidden=hidden, length=64, shard_rows=4096)

        def load(layers: tuple[int, ...]) -> Any:
            return load_targets(TeacherCache.open(path), "train", layers, setting.device)

        works = {
            name: partial(seconds_of, partial(load, layers), setting.device)
            for name, layers in LOADED.items()
        }
        setting.tell(f"loading a cache of {rows} rows")
        seconds = take_turns(works, Rounds.exactly(4 if setting.quick else 10), "loading")
        sizes = {name: load(layers).cls_NLH.nbytes for name, layers in LOADED.items()}
    return {
        "rows": rows, "hidden": hidden, "load": machine.load(),
        "contenders": {  # the first round warms up
            name: summary(each[1:]) | {"bytes": sizes[name]} for name, each in seconds.items()
        },
    }  # fmt: skip
