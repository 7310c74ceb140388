"""Small odd folders of data, written the way their owners write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tasks import Task

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below the test's folder and return its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def tickets() -> Task:
    """An own task with two texts, three labels and an id column."""
    return Task(
        name="tickets",
        text_columns=("subject", "body"),
        label_names=("billing", "technical", "other"),
        label_column="queue",
        id_column="ticket",
    )


@pytest.fixture
def stars() -> Task:
    """An own regression task with one text."""
    return Task(name="stars", text_columns=("review",), metrics=("pearson",))


@pytest.fixture
def glue_root() -> Path:
    """The folder with GLUE's real files: PKD_GLUE, else ../shared/glue beside the repository."""
    beside = Path(__file__).parents[4] / "shared" / "glue"
    root = Path(os.environ.get("PKD_GLUE") or beside)
    if not root.is_dir():
        pytest.skip("GLUE's real files are not here; name their folder by PKD_GLUE")
    return root
