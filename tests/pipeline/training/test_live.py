"""pytest tests/pipeline/training/test_live.py"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import TrainingError
from pipeline.training.live import logbook, shares


def test_shares_are_parts_of_the_total() -> None:
    assert shares({"ce": 3.0, "kd": 1.0, "total": 4.0}) == {"ce": 0.75, "kd": 0.25}
    assert shares({"ce": 0.0, "total": 0.0}) == {}


def test_a_repository_without_a_commit_is_one_message(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=tmp_path, check=True)
    with pytest.raises(TrainingError, match="make one: `git add"):  # noqa: SIM117
        with logbook(tmp_path / "run", resume_at=None):
            pass
