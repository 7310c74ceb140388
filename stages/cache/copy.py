"""`pkd-cache copy`: a cache to another place."""

from __future__ import annotations

from typing import Any

import click

from stages.cache.tables import size_text
from stages.cli import Command, emit, json_option, note, overwrite_option
from stages.progress import progress


@click.command(cls=Command)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@overwrite_option
@json_option
def copy(source: str, target: str, overwrite: bool, as_json: bool) -> None:
    """Copy a cache between folders and any fsspec URLs (s3://, gs://, memory://, ...).

    Every file is compared with the manifest when it is read, and read back when it is written; the
    manifest comes last. A copy that was stopped goes on when the same command is run again. What is
    no cache is never replaced.

    \b
    Example:
      pkd-cache copy data/rte.zarr s3://team/caches/rte.zarr
    """
    from pipeline.store.copy import copy_cache

    with progress() as tick:
        done = copy_cache(source, target, overwrite=overwrite, tick=tick)
    if done.existed:
        note(f"{target}: is this cache already; nothing to do.")
    emit(_result(source, target, done), as_json, _text(target, done))


def _result(source: str, target: str, done: Any) -> dict[str, Any]:
    figures = {name: value for name, value in vars(done).items() if name != "manifest"}
    where = {"source": source, "target": target}
    return where | figures | {"content_digest": done.manifest.content_digest}


def _text(target: str, done: Any) -> str:
    if done.existed:
        return f"{target}: the same cache, {size_text(done.manifest.total_bytes)}"
    rate = size_text(round(done.copied_bytes / max(done.seconds, 1e-9)))
    return (
        f"{target}: {done.copied_files} files copied, {done.kept_files} were there already; "
        f"{size_text(done.copied_bytes)} copied and read back in {done.seconds:.1f} s, {rate}/s"
    )
