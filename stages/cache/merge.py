"""`pkd-cache merge`: parts that were built apart."""

from __future__ import annotations

from pathlib import Path

import click

from stages.cache.words import next_text, scores_lines, summary_text
from stages.cli import Command, emit, json_option, note, overwrite_option
from stages.progress import progress


@click.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("parts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--allow-weak-teacher", is_flag=True, help="As for `build`.")
@overwrite_option
@json_option
def merge(
    out: Path, parts: tuple[Path, ...], allow_weak_teacher: bool, overwrite: bool, as_json: bool
) -> None:
    """Make a cache of parts that were built with --shard I/N, on any machines.

    Completeness and identity are checked; the bytes are those of a build by one process.

    \b
    Example:
      pkd-cache merge data/rte.zarr data/rte.zarr.part-*-of-3
    """
    from pipeline.caching.merge import merge_parts

    with progress() as tick:
        manifest, existed = merge_parts(
            out, parts, allow_weak_teacher=allow_weak_teacher, overwrite=overwrite, tick=tick
        )
    if existed:
        note(f"{out}: holds these parts already; nothing to do.")
    result = {"cache": str(out), "existed": existed, "cache_id": manifest.cache_id}
    lines = [summary_text(out, manifest), *scores_lines(manifest), next_text(out)]
    emit(result | {"scores": manifest.teacher["scores"]}, as_json, "\n".join(lines))
