"""Fixtures shared by all tests: a small task that a tiny model learns, its teacher and cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.tiny import World, build_world

if TYPE_CHECKING:
    from tests.support.exports import Exported

# before anything imports the hub client: no test may wait for a network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# test processes share the cores, and so do the processes that they start
os.environ.setdefault("OMP_NUM_THREADS", "1")


# how long an example takes says how busy the machine is
hypothesis.settings.register_profile("pkd", deadline=None)
hypothesis.settings.load_profile("pkd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and leave what takes too long to `make soak`."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    if os.environ.get("PKD_SOAK"):
        return
    for item in items:
        if item.get_closest_marker("soak_only"):
            item.add_marker(pytest.mark.skip(reason="of `make soak`"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Whatever the environment says."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def outside_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read `params.yaml` and write `data/` in the working directory: never in ours."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, encoder, teacher and caches; read-only for tests (copy what you change)."""
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def exported(world: World, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A student as ONNX, float32 and int8; read-only for tests."""
    from tests.support.exports import export_bert

    return export_bert(tmp_path_factory.mktemp("exports"), world)
