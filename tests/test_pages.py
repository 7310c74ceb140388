"""pytest tests/test_pages.py - pages that begin where the tutorial on RTE ends, typed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.hub import environment as hub_environment
from tests.support.hub import local_hub
from tests.support.pages import Page, shell
from tests.support.tiny import World

FIT = "pkd-student fit --cache data/rte.zarr --strategy skip --student-layers 3"


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the tutorial leaves: data, teacher, cache, a student."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(world.root / "data", folder / "data")
    student = {"init": str(world.encoder), "epochs": 1, "batch_size": 16, "learning_rate": 1e-3}
    others = ("grid", "tasks", "data", "base", "teacher", "cache", "report")
    params: dict[str, dict[str, object]] = {**{name: {} for name in others}, "student": student}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    shell(FIT, folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """The same, to be written into."""
    return Path(shutil.copytree(finished, tmp_path / "here"))


PAGES: dict[str, dict[str, str]] = {
    "choosing.md": {},
    "export.md": {},
    "report.md": {},
    # what would run until it is stopped prints what it found instead
    "tracking.md": {"tensorboard --logdir": "tensorboard --inspect --logdir"},
}


@pytest.mark.soak_only
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "ours"), PAGES.items(), ids=list(PAGES))
def test_the_page(name: str, ours: Mapping[str, str], folder: Path) -> None:
    outputs = dict(Page(name, folder, ours, {"MLFLOW_DISABLE_TELEMETRY": "true"}).walk())
    made = {
        "choosing.md": "data/metrics/sweep-rte-sweep.json",
        "export.md": "data/metrics/bench-rte-skip-3-s0.json",
        "report.md": "data/report/report.html",
        "tracking.md": "mlflow.db",
    }
    assert (folder / made[name]).is_file()
    assert len(outputs) >= 1
    if name == "report.md":
        text = (folder / "data" / "report" / "report.md").read_text("utf-8")
        assert "Bench rte-skip-3-s0" in text
        assert "What each teacher layer knows" in text
        assert "### Sweep" in text


@pytest.mark.soak_only
@pytest.mark.timeout(900)
def test_the_page_on_the_hub(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {"bert-base-uncased": str(world.encoder), "@v2": ""}
    with local_hub(monkeypatch) as hub:
        known = hub_environment(hub.endpoint) | {"HF_HOME": str(folder / "home")}
        outputs = dict(Page("hub.md", folder, ours, known).walk())
        assert {"models/ada/rte-3-layers", "datasets/ada/rte-cache"} <= set(hub.repos)
    (read,) = (text for typed, text in outputs.items() if "pkd-cache verify" in typed)
    assert "hf://datasets/ada/rte-cache/rte.zarr: sound" in read


@pytest.mark.soak_only
@pytest.mark.timeout(900)
def test_the_page_on_several_processes(folder: Path) -> None:
    """Its sh blocks: a build by several processes, the same in parts, a student by several."""
    ours = {"mnli": "rte", "--nproc-per-node 4": "--nproc-per-node 2"}
    cache = folder / "data" / "rte.zarr"
    student = folder / "data" / "students" / "rte-skip-3-s0"
    manifests = []
    walk = Page("clusters.md", folder, ours, only="sh").walk()
    for _ in range(2):  # together, then in parts
        shutil.rmtree(cache)
        next(walk)
        manifests.append((cache / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    shutil.rmtree(student)
    (typed, _) = next(walk)
    assert "stages.student fit" in typed
    assert list(walk) == []
    assert (student / "run.json").is_file()
