"""Our commands, called in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from stages import student
from tests.support.tiny import World


def run(group: Any, *arguments: object) -> Result:
    """Call a group's command with these words."""
    return CliRunner().invoke(group, [str(each) for each in arguments])


def fit(world: World, source: object, out: Path) -> Result:
    """Train a small student from a cache, wherever it lies."""
    options = ["--strategy", "skip", "--student-layers", "2", "--epochs", "1", "--device", "cpu"]
    return run(
        student.cli, "fit", "--cache", source, "--out", out, "--init", world.encoder, *options
    )
