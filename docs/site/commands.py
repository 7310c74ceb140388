"""Hooks of mkdocs: the help of every command, as a terminal shows it, and links out of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

MARK = "<!-- commands -->"
LINK = re.compile(r"\[([^\]]+)\]\(((?![a-z]+:|#)[^)#]+)(?:#[^)]*)?\)")
GROUPS = ("data", "teacher", "cache", "student", "report")
WIDTH = 84


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, "\n".join(sections()))
    folder = posixpath.dirname(page.file.src_uri)
    return LINK.sub(lambda found: _within(found, folder), markdown)


def _within(found: re.Match[str], folder: str) -> str:
    """A link to a file that only the repository has becomes that file's name."""
    target = posixpath.normpath(posixpath.join(folder, found[2]))
    outside = target.startswith("..")
    return f"`{target.lstrip('./')}`" if outside or found[2].endswith("/") else found[0]


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
