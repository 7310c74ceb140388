"""`pkd-cache copy`: a cache to another place."""

from __future__ import annotations

import time

import click

from stages.cli import emit, json_option, note, overwrite_option, progress


@click.command()
@click.argument("source")
@click.argument("target")
@overwrite_option
@json_option
def copy(source: str, target: str, overwrite: bool, as_json: bool) -> None:
    """Copy a cache between folders and any fsspec URLs (s3://, gs://, ...).

    Every file is read back and compared; the manifest comes last. A copy that was stopped goes on
    when the same command is run again.

    \b
    Example:
      pkd-cache copy data/rte.zarr s3://team/caches/rte.zarr
    """
    from pipeline.store.copy import copy_cache

    start = time.monotonic()
    with progress() as tick:
        done = copy_cache(source, target, overwrite=overwrite, tick=tick)
    if done.existed:
        note(f"{target}: is this cache already; nothing to do.")
    result = {
        "source": source,
        "target": target,
        "existed": done.existed,
        "copied_files": done.copied_files,
        "kept_files": done.kept_files,
        "copied_bytes": done.copied_bytes,
        "content_digest": done.manifest.content_digest,
    }
    text = f"{target}: {done.copied_files} files copied, {done.kept_files} were there already; "
    seconds = max(time.monotonic() - start, 1e-9)
    text += f"{done.copied_bytes / 1e6:.1f} MB at {done.copied_bytes / 1e6 / seconds:.1f} MB/s"
    emit(result, as_json, f"{target}: the same cache" if done.existed else text)
