"""pytest tests/test_site.py - the documentation site: whole, linked, and complete."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parent.parent
GROUPS = ("data", "teacher", "cache", "student", "report")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a link or page that is missing is an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return out


def text_of(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text("utf-8")


def test_every_command_and_option_is_on_the_page_of_commands(site: Path) -> None:
    text = text_of(site, "commands")
    for name in GROUPS:
        group: click.Group = importlib.import_module(f"stages.{name}").cli
        for command_name, command in group.commands.items():
            assert f"Usage: pkd-{name} {command_name}" in text
            options = [each for each in command.params if isinstance(each, click.Option)]
            assert all(each.opts[0] in text for each in options)


def test_public_docstrings_are_on_the_page_of_the_library(site: Path) -> None:
    text = text_of(site, "api")
    names = ("TeacherCache.open", "CachedSplit.align", "patience_loss", "layer_map", "Strategy")
    assert all(name in text for name in names)
    assert "CacheCorruptError" in text


def test_every_page_of_the_folder_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        place = page.relative_to(ROOT / "docs").with_suffix("")
        assert (site / ("" if place.name == "index" else place) / "index.html").exists()


def test_every_link_leads_to_a_file_of_the_site(site: Path) -> None:
    for page in site.rglob("index.html"):
        for link in re.findall(r'href="([^"#?]+)', page.read_text("utf-8")):
            if re.match(r"[a-z]+:|/", link):
                continue
            target = page.parent / link
            assert (
                target / "index.html" if link.endswith(("/", "..", ".")) else target
            ).exists(), f"{page.relative_to(site)}: {link}"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "fonts.googleapis" not in text
        assert '<script src="http' not in text
