"""A bench from folders to its record, its table and its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline import machine
from pipeline.bench.contenders import STUDENT, TEACHER, Contender, exported, in_pytorch, require_fit
from pipeline.bench.measure import WARM_UP, Timing, measure
from pipeline.bench.table import paper_table
from pipeline.devices import pick_device
from pipeline.errors import ParamsError
from pipeline.files import write_atomic, write_json
from pipeline.models.inputs import positions_of
from pipeline.progress import Tick, silent

LIBRARIES = ("torch", "transformers")
WITH_EXPORTS = (*LIBRARIES, "onnxruntime")
LENGTHS = (32, 128)


@dataclass(frozen=True, kw_only=True)
class BenchParams:
    """What is measured, and how."""

    batch_sizes: tuple[int, ...] = (1, 8, 32)
    lengths: tuple[int, ...] | None = None
    """Tokens of a row; None = `LENGTHS`, as far as every model reads them."""
    seconds: float = 2.0
    """For each contender and shape."""
    threads: int | None = None
    """Of one call; None = as many as torch takes."""
    device: str = "cpu"
    """Of the PyTorch models; exports run on the CPU."""


def run_bench(
    *,
    students: Sequence[Path],
    teacher: str | None,
    exports: Sequence[Path],
    name: str,
    folder: Path,
    params: BenchParams,
    tick: Tick = silent,
) -> dict[str, Any]:
    """Measure, and write bench-NAME.json, .md and .png into a folder.

    Args:
        students: folders of classifiers.
        teacher: folder or hub id of the one that speed-ups refer to; None = no speed-ups.
        exports: folders that `pkd-student export` made.
        name: of the bench.
        folder: where the three files go; those of an earlier bench of the name are replaced.
        params: shapes, threads and device.
        tick: told of finished rounds.

    Returns:
        The record.

    Raises:
        ModelError, ExportError, ParamsError: a folder that cannot be run, or not with these shapes.
    """
    if not name or set(name) & set("/\\\0"):
        raise ParamsError(f"--name {name}: expected a name without slashes.")
    with threads(params.threads) as count:
        contenders = _contenders(students, teacher, exports, params, count)
        lengths = params.lengths or lengths_for(contenders)
        require_fit(contenders, lengths)
        before = machine.load()
        timings = measure(contenders, params.batch_sizes, lengths, params.seconds, tick)
    record = {
        "kind": "bench",
        "format": 1,
        "name": name,
        "machine": machine.describe(WITH_EXPORTS if exports else LIBRARIES)
        | {"threads": count, "load_before": before, "load_after": machine.load()},
        "batch_sizes": list(params.batch_sizes),
        "lengths": list(lengths),
        "warm_up_calls": WARM_UP,
        "contenders": [each.to_dict() for each in contenders],
        "timings": [each.to_dict() for each in timings],
    }
    _write(folder / f"bench-{name}", record, contenders, timings)
    return record


def lengths_for(contenders: Sequence[Contender]) -> tuple[int, ...]:
    """`LENGTHS`; of those that are too long for a model, its longest instead."""
    longest = min(positions_of(each.config) or max(LENGTHS) for each in contenders)
    return tuple(sorted({min(length, longest) for length in LENGTHS}))


@contextmanager
def threads(wanted: int | None) -> Iterator[int]:
    """Let torch use so many threads; yields how many it uses."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _contenders(
    students: Sequence[Path],
    teacher: str | None,
    exports: Sequence[Path],
    params: BenchParams,
    count: int,
) -> list[Contender]:
    device = pick_device(params.device)
    return [
        *([in_pytorch(teacher, TEACHER, device)] if teacher else []),
        *(in_pytorch(str(folder), STUDENT, device) for folder in students),
        *(each for folder in exports for each in exported(folder, count)),
    ]


def _write(
    base: Path, record: dict[str, Any], contenders: Sequence[Contender], timings: Sequence[Timing]
) -> None:
    from pipeline.report.figures.bench import draw_bench

    picture = draw_bench(contenders, timings, record["machine"])
    write_atomic(base.with_name(base.name + ".png"), picture)
    write_atomic(base.with_name(base.name + ".md"), paper_table(record).encode())
    write_json(base.with_name(base.name + ".json"), record)
