"""pytest tests/test_tutorials.py - the tutorials, typed as they are written, on tiny models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.pages import DOCS, Page
from tests.support.tiny import save_encoder, write_rte

# so that tiny models learn in seconds; the pages leave such choices to the reader
QUICK: dict[str, Any] = {
    "grid": {}, "tasks": {}, "data": {}, "base": {}, "report": {}, "cache": {},
    "teacher": {
        "epochs": 8, "batch_size": 16, "learning_rate": 5e-3, "dropout": 0.0, "max_length": 32,
    },
    "student": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(QUICK), "utf-8")
    return tmp_path


def students(folder: Path) -> set[str]:
    return {path.name for path in (folder / "data" / "students").glob("[!.]*")}


@pytest.mark.soak_only
@pytest.mark.timeout(600)
def test_the_tutorial_on_rte(folder: Path) -> None:
    encoder, source = save_encoder(folder / "encoder"), write_rte(folder / "files" / "RTE")
    ours = {"bert-base-uncased": str(encoder), "glue/RTE": str(source)}
    outputs = dict(Page("tutorials/rte.md", folder, ours).walk())
    strategies = ("finetune", "kd", "skip", "last")
    assert students(folder) == {f"rte-{strategy}-3-s0" for strategy in strategies}
    report = (folder / "data" / "report" / "report.md").read_text("utf-8")
    assert all(strategy in report for strategy in strategies)
    assert "layer" in "".join(text for typed, text in outputs.items() if "probe" in typed)


@pytest.mark.soak_only
@pytest.mark.timeout(600)
def test_the_tutorial_on_own_data(folder: Path) -> None:
    page = (DOCS / "tutorials" / "own-data.md").read_text("utf-8")
    words = sorted(set(re.findall(r"[a-z]+", page)))  # all that its texts can hold
    encoder = save_encoder(folder / "encoder", words=words)
    outputs = Page("tutorials/own-data.md", folder, {"bert-base-uncased": str(encoder)}).walk()
    (answer,) = (text for typed, text in outputs if "classify(" in typed)
    assert re.search(r"'label': '(billing|technical|other)'", answer)
    assert students(folder) == {"tickets-skip-3-s0", "tickets-more-kd"}
    record = json.loads((folder / "data" / "more" / "tickets" / "data.json").read_text("utf-8"))
    train = record["splits"]["train"]
    assert (train["rows"], train["labelled"]) == (402, 400)
