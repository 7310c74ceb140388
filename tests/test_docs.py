"""pytest tests/test_docs.py - the commands in the documents exist, with their options."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from tests.support.pages import fenced

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"(?:pkd-(data|teacher|cache|student|report)|-m stages\.(\w+)) ([a-z-].*)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Code blocks of a page: language and text, continued lines joined."""
    found = fenced(page.read_text("utf-8"))
    return [(block.language, block.text.replace("\\\n", " ")) for block in found]


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Our commands in a page's code blocks: the stage, and its arguments."""
    for _, text in blocks(page):
        for line in text.splitlines():
            for part in re.split(r"&&|\||;", line.split(" #")[0]):
                if match := COMMAND.search(part):
                    rest = match[3].strip().rstrip("'])\"")
                    try:
                        yield match[1] or match[2], shlex.split(rest)
                    except ValueError:
                        yield match[1] or match[2], rest.replace('"', "").split()


CASES = [(page.name, stage, words) for page in PAGES for stage, words in commands(page)]


def test_the_pages_show_commands() -> None:
    assert {name for name, _, _ in CASES} >= {"README.md", "clusters.md"}
    assert {stage for _, stage, _ in CASES} >= {"data", "teacher", "cache", "student", "report"}


@pytest.mark.parametrize(("page", "stage", "words"), CASES, ids=lambda v: str(v)[:60])
def test_a_command_of_a_document_is_one_that_there_is(
    page: str, stage: str, words: list[str]
) -> None:
    group = importlib.import_module(f"stages.{stage}").cli
    name, *arguments = words
    if name.startswith("-"):
        return  # of the whole command, such as --version
    context = click.Context(group, **group.context_settings)
    command = group.get_command(context, name)
    assert command, f"{page}: no command {name}"
    try:
        command.make_context(name, arguments, parent=context)
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        pytest.fail(f"{page}: {stage} {' '.join(words)}: {error.format_message()}")


def test_the_kubernetes_job_is_yaml() -> None:
    texts = [text for lang, text in blocks(ROOT / "docs" / "clusters.md") if lang == "yaml"]
    job = yaml.safe_load(texts[0])
    assert job["spec"]["completionMode"] == "Indexed"
    container = job["spec"]["template"]["spec"]["containers"][0]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
