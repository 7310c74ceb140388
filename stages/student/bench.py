"""`pkd-student bench`: how fast teacher, students and exports are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import Command, emit, json_option, note, path_option
from stages.progress import progress

BUSY = 0.5  # load for each core, before the first call


class Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between: 1,8,32."""

    name = "numbers"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Parse, in order and each once."""
        parts = str(value).split(",")
        if not all(part.isdecimal() and int(part) >= self.least for part in parts):
            self.fail(
                f"{value}: expected numbers of {self.least} or more, such as 8,32.", param, ctx
            )
        return tuple(sorted({int(part) for part in parts}))


@click.command(cls=Command)
@click.argument("students", metavar="STUDENT...", nargs=-1, required=True,
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("--teacher", help="What speed-ups refer to: a folder or a hub id.")
@click.option("--onnx", "exports", multiple=True, type=click.Path(path_type=Path),
              help="A folder of `pkd-student export`, with all its files. Repeatable.")  # fmt: skip
@click.option(
    "--batch-sizes", type=Counts(1), default="1,8,32", show_default=True, help="Rows of a call."
)
@click.option(
    "--lengths",
    type=Counts(2),
    help="Tokens of a row. [default: 32,128, or the longest that every model reads]",
)
@click.option("--seconds", type=click.FloatRange(min=0), default=2.0, show_default=True,
              help="For each model and shape of a batch; from 10 to 200 calls.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Of a call. [default: torch's]")
@click.option("--device", default="cpu", show_default=True,
              help="Of the PyTorch models: cpu, cuda, mps or auto.")  # fmt: skip
@click.option("--name", help="The bench. [default: the first student's]")
@path_option("--out", "Where bench-NAME.json, .md and .png go. [default: data/metrics]")
@json_option
def bench(
    students: tuple[Path, ...],
    teacher: str | None,
    exports: tuple[Path, ...],
    batch_sizes: tuple[int, ...],
    lengths: tuple[int, ...] | None,
    seconds: float,
    threads: int | None,
    device: str,
    name: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput on this machine, side by side.

    The models take turns, call by call, on made-up rows without padding. Writes the figures, the
    parameters and speed-ups as a table (as table 4 of the PKD paper), and a picture.

    \b
    Example:
      pkd-student bench data/students/rte-skip-3-s0 --teacher data/teachers/rte \\
        --onnx data/exports/rte-skip-3-s0
    """
    from pipeline import machine
    from pipeline.bench.run import BenchParams, run_bench
    from stages.student.bench_table import bench_table

    load, cores = machine.load(), machine.cores()
    if load is not None and load > BUSY * cores:
        note(f"  warning: this machine is busy (load {load:.1f} on {cores} cores); so are figures.")
    params = BenchParams(
        batch_sizes=batch_sizes, lengths=lengths, seconds=seconds, threads=threads, device=device
    )
    name = name or students[0].resolve().name
    folder = out or Path("data/metrics")
    with progress() as tick:
        record = run_bench(
            students=students,
            teacher=teacher,
            exports=exports,
            name=name,
            folder=folder,
            params=params,
            tick=tick,
        )
    note(f"{folder}/bench-{name}.json, .md and .png: written")
    emit(record, as_json, bench_table(record))
