"""`pkd-cache build`: stage one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cache.words import next_text, scores_lines, summary_text
from stages.cli import (
    Command,
    emit,
    json_option,
    note,
    overwrite_option,
    path_option,
    prepared_data,
    resolve,
    task_named,
    task_option,
    with_params,
)
from stages.progress import progress


@click.command(cls=Command)
@task_option
@click.option("--teacher", help="A folder or a hub id. [default: data/teachers/TASK]")
@path_option("--data", "Prepared data. [default: data/raw/TASK]")
@path_option("--out", "The cache. [default: data/TASK.zarr]")
@path_option("--metrics", "Timings, as JSON. [default: data/metrics/cache-TASK.json]")
@with_params("cache")
@click.option("--reuse", metavar="OLD", help="Take over rows of a cache of the same teacher.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Build one of N parts, for `merge`. [out: data/TASK.zarr.part-I-of-N]",
)
@overwrite_option
@json_option
def build(
    task: str,
    teacher: str | None,
    data: Path | None,
    out: Path | None,
    metrics: Path | None,
    reuse: str | None,
    shard: str | None,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Run a teacher once over the data and write its outputs to a cache.

    A build that was stopped goes on from its last finished shard when it is run again.

    \b
    Example:
      pkd-cache build --task rte
    """
    task_named(task)
    share = parse_share(shard)
    note(f"cache for {task}")
    values, _ = resolve("cache", flags, task)
    from pipeline.caching.build import build_cache, timings
    from pipeline.files import write_json
    from pipeline.store.plan import Share

    folder = out or Path(f"data/{task}.zarr" + ("" if share is None else _part_suffix(*share)))
    with progress() as tick:
        built = build_cache(
            prepared=prepared_data(task, data),
            teacher_name=teacher or f"data/teachers/{task}",
            out=folder,
            params=values,
            overwrite=overwrite,
            reuse=reuse,
            share=None if share is None else Share(*share),
            tick=tick,
        )
    if built.set_aside:
        note(
            "An unfinished build of another teacher, data, option or library was set aside in "
            f"{built.set_aside}; delete it when you do not need it."
        )
    if built.existed:
        note(f"{folder}: built from the same teacher, data and options already; nothing to do.")
    elif built.manifest:
        write_json(metrics or Path(f"data/metrics/cache-{task}.json"), timings(built))
    emit(_built_result(folder, built), as_json, _built_text(folder, built))


def parse_share(text: str | None) -> tuple[int, int] | None:
    """`0/3` as (0, 3); raises click's usage error for anything else."""
    if text is None:
        return None
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        index, count = int(parts[0]), int(parts[1])
        if index < count:
            return index, count
    raise click.BadParameter(f"{text}: expected I/N with I from 0 to N - 1, such as 0/3.")


def _part_suffix(index: int, count: int) -> str:
    return f".part-{index}-of-{count}"


def _built_result(folder: Path, built: Any) -> dict[str, Any]:
    manifest = built.manifest
    result = {
        "cache": str(folder),
        "existed": built.existed,
        "computed_rows": built.computed_rows,
        "copied_rows": built.copied_rows,
        "reused_rows": built.reused_rows,
    }
    if manifest is None:
        return result
    return result | {"scores": manifest.teacher["scores"], "cache_id": manifest.cache_id}


def _built_text(folder: Path, built: Any) -> str:
    lines = [f"{folder}: a part of a cache"] if built.manifest is None else []
    if built.manifest:
        lines = [summary_text(folder, built.manifest)]
    if not built.existed:
        lines.append(_work_text(built))
    if built.manifest is None:
        lines.append("Next: when all parts are there, pkd-cache merge OUT PART...")
        return "\n".join(lines)
    return "\n".join([*lines, *scores_lines(built.manifest), next_text(folder)])


def _work_text(built: Any) -> str:
    parts = [f"computed {built.computed_rows:,} rows in {built.seconds:.0f} s"]
    if built.workers.count > 1:
        parts[0] += f" in this one of {built.workers.count} processes"
    if built.reused_rows:
        parts.append(f"reused {built.reused_rows:,} rows")
    if built.copied_rows:
        parts.append(f"{built.copied_rows:,} repeat another row")
    if built.resumed_shards:
        parts.append(f"{built.resumed_shards} shards were there already")
    return "  " + ", ".join(parts)
