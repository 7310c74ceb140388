"""`pkd-student sweep`: many students from one cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import (
    Command,
    emit,
    json_option,
    note,
    overwrite_option,
    path_option,
    resolve,
    with_params,
)
from stages.student.options import cache_option
from stages.student.sweep_table import sweep_table


@click.command(cls=Command)
@cache_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUES",
    help="What varies: temperature=5,10 or learning_rate=1e-5..1e-4:log. Repeatable.",
)
@click.option("--name", help="The sweep. [default: TASK-sweep]")
@path_option("--out", "Where the students go. [default: data/students]")
@click.option(
    "--sampler",
    type=click.Choice(["grid", "tpe", "random"]),
    default="grid",
    show_default=True,
    help="All points, or --trials of them as Optuna's sampler draws them.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Students of tpe and random.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes. [default: one a core; 4 a GPU]"
)
@click.option("--storage", help="An Optuna storage that machines share, such as postgresql://...")
@with_params("student")
@overwrite_option
@json_option
def sweep(
    cache: str,
    settings: tuple[str, ...],
    name: str | None,
    out: Path | None,
    sampler: str,
    trials: int | None,
    workers: int | None,
    storage: str | None,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train many students from one cache, several at a time.

    The cache is read once. A sweep that was stopped goes on with the same command. A preset brings
    its grid along; --set adds to it, or replaces a part. The result is in
    data/metrics/sweep-NAME.json; every student is a folder as of `fit`, for `pkd-report`.

    \b
    Example:
      pkd-student sweep --cache data/rte.zarr --set strategy=kd,skip --set temperature=5,10,20
      pkd-student sweep --cache data/rte.zarr --preset pkd2019
    """
    from pipeline.presets import load_preset
    from pipeline.store.manifest import read_manifest
    from pipeline.sweep.run import run_sweep
    from pipeline.sweep.space import parse_space

    task = str(read_manifest(cache).task["name"])
    note(f"sweep for {task} from {cache}")
    values, sources = resolve("student", flags, task)
    space = parse_space(settings, load_preset(values.preset).grid if values.preset else None)
    with sweep_table(f"{name or f'{task}-sweep'}", list(space)) as on_change:
        result = run_sweep(
            cache_path=cache,
            space=space,
            base=values,
            sources=sources,
            name=name or f"{task}-sweep",
            out=out or Path("data/students"),
            sampler=sampler,
            trials=trials,
            workers=workers,
            storage=storage,
            overwrite=overwrite,
            on_change=on_change,
        )
    emit(result, as_json, _sweep_summary(result))
    if not result["best"] and not result["unfinished"]:
        raise click.exceptions.Exit(1)


def _sweep_summary(result: dict[str, Any]) -> str:
    lines = [f"{result['name']}: {len(result['scores'])} students, {result['seconds']:.0f} s"]
    for name, score in list(result["scores"].items())[:10]:
        lines.append(f"  {result['metric']} {score:.4f}  {name}")
    if len(result["scores"]) > 10:
        lines.append(f"  and {len(result['scores']) - 10} more, in data/metrics")
    for name, error in result["failed"].items():
        lines.append(f"  failed: {name}: {error}")
    if more := len(result["unfinished"]):
        lines.append(
            f"  {more} more are under way on other machines; a machine that died gives its own "
            "back in two minutes: run the same command again"
        )
    return "\n".join(lines)
