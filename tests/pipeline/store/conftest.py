"""A sound cache, a copy of it to harm, and the process that reads what became of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile import ROWS
from tests.support.synthetic import write
from tests.support.victim import Report, Victim


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound cache, only to be read."""
    folder = tmp_path_factory.mktemp("sound") / "c.zarr"
    write(folder, rows=ROWS)
    return folder


@pytest.fixture(scope="session")
def victim(sound: Path) -> Iterator[Victim]:
    """The process that reads."""
    with Victim(sound) as process:
        yield process


@pytest.fixture(scope="session")
def original(victim: Victim, sound: Path) -> Report:
    """What reading the sound cache comes to."""
    report = victim.examine(sound)
    assert report.verified
    assert set(report.values) == {"train.examples", "train.logits", "train.cls"}
    return report


@pytest.fixture
def cache(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound cache."""
    return Path(shutil.copytree(sound, tmp_path / "c.zarr"))
