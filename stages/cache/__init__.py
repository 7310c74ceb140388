"""`pkd-cache`: stage one, and everything about a finished cache."""

from __future__ import annotations

from stages.cache.build import build
from stages.cache.copy import copy
from stages.cache.diff import diff
from stages.cache.export import export
from stages.cache.look import info, verify
from stages.cache.merge import merge
from stages.cache.probe import probe
from stages.cache.push import push
from stages.cli import commands


@commands("pkd-cache", "Build, look at, verify and share teacher caches.")
def cli() -> None:
    """The group."""


for command in (build, copy, info, verify, diff, export, merge, probe, push):
    cli.add_command(command)
