"""`pkd-cache push`: a cache to the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

import click

from stages.cache.tables import size_text
from stages.cli import Command, cache_argument, emit, json_option, note, overwrite_option
from stages.hub import hub_bars, hub_options
from stages.progress import progress


@click.command(cls=Command)
@cache_argument
@hub_options
@overwrite_option
@json_option
def push(
    cache: str,
    repo: str,
    private: bool,
    revision: str | None,
    message: str | None,
    license_name: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Put a cache into a dataset repository of the Hugging Face Hub, with a dataset card.

    It lies there in a folder of its own name, and opens as hf://datasets/USER/NAME/CACHE wherever a
    cache is named. Every file is checked before it goes and when it is there. A push that was
    stopped is no cache, and goes on when the same command is run again.

    \b
    Example:
      pkd-cache push data/rte.zarr --repo ada/rte-cache --private
    """
    from pipeline.hub.cache import push_cache

    with progress() as tick, hub_bars():
        done = push_cache(
            cache,
            repo,
            private=private,
            revision=revision,
            message=message,
            license_name=license_name,
            overwrite=overwrite,
            tick=tick,
        )
    if done.card_kept:
        note(f"{repo}: has a README.md of its own, which was left alone.")
    if not done.pushed.commits:
        note(f"{repo}: holds this cache already; nothing to do.")
    emit(_result(done), as_json, _text(done))


def _result(done: Any) -> dict[str, Any]:
    digest = done.manifest.content_digest
    return {"address": done.address, "content_digest": digest, **vars(done.pushed)}


def _text(done: Any) -> str:
    sent = f"{done.pushed.pushed_files} files ({size_text(done.pushed.pushed_bytes)}) pushed"
    return (
        f"{done.address}: {sent}, {done.pushed.kept_files} were there already\n"
        f"  pkd-student fit --cache {done.address} --strategy skip"
    )
