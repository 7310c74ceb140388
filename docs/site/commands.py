"""A hook of mkdocs: every command's help in the page of commands, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

MARK = "<!-- commands -->"
GROUPS = ("data", "teacher", "cache", "student", "report")
WIDTH = 84


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return markdown.replace(MARK, "\n".join(sections())) if MARK in markdown else markdown


def sections() -> Iterator[str]:
    """A heading and the help of each command."""
    for name in GROUPS:
        group = import_module(f"stages.{name}").cli
        above = click.Context(group, info_name=f"pkd-{name}", **group.context_settings)
        yield f"## pkd-{name}\n\n{group.help}\n"
        for command_name, command in sorted(group.commands.items()):
            context = click.Context(
                command, info_name=command_name, parent=above,
                **group.context_settings | {"terminal_width": WIDTH, "max_content_width": WIDTH},
            )  # fmt: skip
            text = command.get_help(context)
            yield f"### pkd-{name} {command_name}\n\n```text\n{text}\n```\n"
