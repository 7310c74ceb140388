"""pytest tests/test_predict_page.py - the console blocks of docs/predict.md do what they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from stages.student import cli
from tests.support.pages import fenced
from tests.support.students import save_student

PAGE = Path(__file__).parent.parent / "docs" / "predict.md"
LABELS = ("entailment", "not_entailment")


def session(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Commands of a console block, and the lines that it shows of their output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield shlex.split(command), shown


def output_of(words: list[str]) -> str:
    """Run a command of ours, alone or after `cat FILE |`; or `head -1 FILE`."""
    if words[0] == "head":
        return Path(words[2]).read_text().splitlines()[0]
    source = None
    if words[0] == "cat":
        source, words = Path(words[1]).read_bytes(), words[3:]
    assert words[0] == "pkd-student"
    return CliRunner().invoke(cli, words[1:], input=source).output


@pytest.fixture
def _workplace() -> None:
    for task, length in (("demo", 23), ("rte", 64)):
        folder = Path("data/students") / f"{task}-skip-3-s0"
        save_student(folder, LABELS, task=task, max_length=length)
    texts = [f"w{n % 50} sun" for n in range(3000)]
    Path("data/raw/rte").mkdir(parents=True)
    pq.write_table(pa.table({"sentence1": texts, "sentence2": texts}), "data/raw/rte/test.parquet")


@pytest.mark.usefixtures("_workplace")
def test_the_page() -> None:
    page = PAGE.read_text("utf-8")
    Path("pairs.csv").write_text(fenced(page, "csv")[0].text)
    commands = [each for block in fenced(page, "console") for each in session(block.text)]
    assert len(commands) == 6
    for words, shown in commands:
        lines = output_of(words).splitlines()
        for line in shown:
            assert any(each.startswith(line) for each in lines), (words, line, lines)
    header = Path("labels.csv").read_text().splitlines()[0]
    assert header == "index,id,prediction,p_entailment,p_not_entailment"
