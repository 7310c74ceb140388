"""pytest tests/test_pipeline.py - the whole pipeline through a real `dvc repro`, on a tiny demo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.pages import Page

ROOT = Path(__file__).parent.parent
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
    "student": {"epochs": 1, "tasks": {"demo": {"init": "data/base/demo"}}},
    "report": {"latency_rows": 8},
}  # fmt: skip


def dvc(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "",  # compiled files must not count as changed code
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    found = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    return found.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git holds of this repository, with tiny parameters."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split():
        if name.startswith(("pipeline/", "stages/", "data/", ".dvc", "dvc.yaml")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "start"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.mark.timeout(600)
def test_repro_runs_what_changed_and_nothing_else(clone: Path) -> None:
    everything = ran(dvc(clone, "repro"))
    assert sorted(everything) == [
        "base@demo", "cache@demo", "data@demo", "report", "student@demo-finetune-2-0",
        "student@demo-skip-2-0", "teacher@demo",
    ]  # fmt: skip
    for name in ("report.html", "report.md"):
        text = (clone / "data" / "report" / name).read_text("utf-8")
        assert "finetune" in text
        assert "skip" in text
    assert ran(dvc(clone, "repro")) == []
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["student"]["beta"] = 7
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    assert sorted(ran(dvc(clone, "repro"))) == [
        "report", "student@demo-finetune-2-0", "student@demo-skip-2-0",
    ]  # fmt: skip
    assert "demo" in dvc(clone, "metrics", "show")
    dvc(clone, "plots", "show")
    assert (clone / "dvc_plots" / "index.html").exists()


@pytest.mark.timeout(600)
def test_the_tutorial_on_the_demo(clone: Path) -> None:
    here = {"make demo": "dvc repro", ". .venv/bin/activate": "true"}  # nothing to set up
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["student"]["beta"] = 100
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    outputs = dict(Page("tutorials/demo.md", clone, here).walk())
    (again,) = (text for typed, text in outputs.items() if "beta: 500" in typed)
    assert set(ran(again)) == {"report", "student@demo-finetune-2-0", "student@demo-skip-2-0"}
