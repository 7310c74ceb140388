"""Commands of a documentation page, typed into a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

DOCS = Path(__file__).parent.parent.parent / "docs"
FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Fenced(NamedTuple):
    """A code block of a page."""

    language: str
    """"" for a block without one."""
    info: str
    """What stands behind the language."""
    text: str


def fenced(page: str, *languages: str) -> list[Fenced]:
    """The code blocks of a page's text; with `languages`, those of them alone."""
    found = [Fenced(*each) for each in FENCE.findall(page)]
    return [block for block in found if not languages or block.language in languages]


class Page:
    """A page's blocks, one after the other, in one folder."""

    def __init__(
        self,
        name: str,
        folder: Path,
        substitutions: Mapping[str, str],
        variables: Mapping[str, str] | None = None,
        only: str = "",
    ) -> None:
        """`variables` join the environment; with `only`, blocks of that language are typed."""
        self.variables = variables or {}
        found = fenced((DOCS / name).read_text("utf-8"))
        self.blocks = [block for block in found if block.language and only in ("", block.language)]
        self.folder, self.substitutions = folder, substitutions
        self.used: set[str] = set()

    def walk(self) -> Iterator[tuple[str, str]]:
        """Each block's text and what it printed."""
        for block in self.blocks:
            yield block.text, self._block(block.language, block.text)
        assert self.used == set(self.substitutions), "the page no longer says what is replaced"

    def _block(self, language: str, text: str) -> str:
        if language == "yaml":
            self.add_params(yaml.safe_load(text))
            return ""
        if language == "python":
            (self.folder / "block.py").write_text(text, "utf-8")
            return shell("python block.py", self.folder, self.variables)[0]
        typed, expected = console(text) if language == "console" else (text, ())
        for written, ours in self.substitutions.items():
            if written in typed:
                self.used.add(written)
                typed = typed.replace(written, ours)
        output, _ = shell(typed, self.folder, self.variables)
        printed(output, expected)
        return output

    def add_params(self, more: dict[str, Any]) -> None:
        """What a reader adds to `params.yaml`."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text("utf-8"))
        for section, values in more.items():
            params[section] = {**params.get(section, {}), **values}
        path.write_text(yaml.safe_dump(params), "utf-8")


def shell(
    commands: str, folder: Path, variables: Mapping[str, str] | None = None
) -> tuple[str, Path]:
    """What the commands print, and the folder they end in; an error of any fails the test."""
    done = subprocess.run(
        ["bash", "-eux", "-o", "pipefail", "-c", f"{commands}\npwd"],
        cwd=folder, env=environment() | dict(variables or {}), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n\n{done.stdout}"
    return done.stdout, Path(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """A shell with pkd installed, no hub, and S3's endpoint only where the page puts it."""
    variables = {name: value for name, value in os.environ.items() if "ENDPOINT_URL" not in name}
    who = {"NAME": "test", "EMAIL": "test@example.org"}
    return variables | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_AUTHOR_{key}": value for key, value in who.items()},
        **{f"GIT_COMMITTER_{key}": value for key, value in who.items()},
    }


def printed(output: str, expected: tuple[str, ...]) -> None:
    """Lines that begin so must be in an output, in this order."""
    lines = iter(output.splitlines())
    for line in expected:
        assert any(each.startswith(line) for each in lines), f"no {line!r} in:\n{output}"


def console(text: str) -> tuple[str, tuple[str, ...]]:
    """What is typed in a console block, and how lines of what is printed begin."""
    lines = text.splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    return "\n".join(typed), tuple(line for line in lines if line[:2] != "$ ")
