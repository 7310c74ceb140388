"""pytest tests/test_pipeline.py - the whole pipeline as the tutorial types it, on a tiny demo."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.pages import Page, shell
from tests.support.repository import copy_repository

TINY = {
    "grid": {
        "bases": ["demo"], "tasks": ["demo"], "strategies": ["finetune", "skip"],
        "depths": [2], "seeds": [0],
    },
    "tasks": {},
    "base": {"layers": 3, "steps": 6, "hidden_size": 16, "heads": 2, "batch_size": 4},
    "data": {"train_rows": 60, "validation_rows": 30, "test_rows": 10},
    "teacher": {"epochs": 1, "max_length": 23, "tasks": {"demo": {"init": "data/base/demo"}}},
    "cache": {"allow_weak_teacher": True},
    "student": {"epochs": 1, "beta": 100, "tasks": {"demo": {"init": "data/base/demo"}}},
    "report": {"latency_rows": 8},
}  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git holds of this repository, with tiny parameters."""
    folder = tmp_path / "clone"
    copy_repository(folder, ("pipeline/", "stages/", "data/", ".dvc", "dvc.yaml"))
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "start"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_runs_what_changed_and_nothing_else(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # compiled files must not count as changed code
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    here = {"make demo": "dvc repro", ". .venv/bin/activate": "true"}  # nothing to set up
    outputs = Page("tutorials/demo.md", clone, here).walk()
    first, again, changed = (
        sorted(ran(text)) for typed, text in outputs if re.search("make demo|dvc repro", typed)
    )
    students = ["student@demo-finetune-2-0", "student@demo-skip-2-0"]
    before = ["base@demo", "cache@demo", "data@demo", "report", *students, "teacher@demo"]
    assert (first, again, changed) == (before, [], ["report", *students])
    for name in ("report.html", "report.md"):
        text = (clone / "data" / "report" / name).read_text("utf-8")
        assert all(strategy in text for strategy in ("finetune", "skip", "emd"))
    assert "demo" in shell("dvc metrics show", clone)[0]
    shell("dvc plots show", clone)
    assert (clone / "dvc_plots" / "index.html").exists()
