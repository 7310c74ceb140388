"""`pkd-student push`: a student to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from stages.cli import Command, emit, json_option, note
from stages.hub import hub_bars, hub_options
from stages.progress import progress


@click.command(cls=Command)
@click.argument("student", type=click.Path(path_type=Path))
@hub_options
@json_option
def push(
    student: Path,
    repo: str,
    private: bool,
    revision: str | None,
    message: str | None,
    license_name: str | None,
    as_json: bool,
) -> None:
    """Put a student into a model repository of the Hugging Face Hub, with its model card.

    transformers loads it from there by its name. Files that are there already are not sent again.

    \b
    Example:
      pkd-student push data/students/rte-skip-3-s0 --repo ada/rte-3-layers --private
    """
    from pipeline.hub.student import push_student

    with progress() as tick, hub_bars():
        done = push_student(
            student,
            repo,
            private=private,
            revision=revision,
            message=message,
            license_name=license_name,
            tick=tick,
        )
    if not done.commits:
        note(f"{repo}: holds this student already; nothing to do.")
    text = (
        f"{done.url}: {done.pushed_files} files ({done.pushed_bytes / 1e6:.1f} MB) pushed, "
        f"{done.kept_files} were there already"
    )
    emit({"student": str(student)} | vars(done), as_json, text)
