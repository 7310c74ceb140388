"""What the commands that push to the Hugging Face Hub share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from stages.cli import F, is_quiet


def hub_options(function: F) -> F:
    """Where to push, and as what."""
    options = (
        click.option("--repo", required=True, metavar="USER/NAME", help="Made if it is not there."),
        click.option("--private", is_flag=True, help="Of a new repository: only you can see it."),
        click.option("--revision", help="A branch, made if it is not there. [default: main]"),
        click.option("--message", help="Of the commit."),
        click.option("--license", "license_name", help="For the card: apache-2.0, cc-by-4.0, ..."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@contextmanager
def hub_bars() -> Iterator[None]:
    """The Hub's own progress bars, of the bytes of a commit, only on a terminal."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    were_disabled = are_progress_bars_disabled()
    if is_quiet() or not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
