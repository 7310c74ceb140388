"""pytest tests/stages/test_hub.py - the commands, as a person uses them with the Hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stages import cache, student
from tests.support.commands import fit, run
from tests.support.hub import LocalHub, environment, local_hub
from tests.support.tiny import World

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ada/rte-cache"
URL = f"hf://datasets/{REPO}/rte16.zarr"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with local_hub(monkeypatch) as found:
        yield found


def test_from_a_cache_to_a_student_that_transformers_loads(
    world: World, hub: LocalHub, tmp_path: Path
) -> None:
    """Push a cache, train from its address, push the student, load it by its name."""
    pushed = run(cache.cli, "push", world.cache16, "--repo", REPO, "--private")
    assert pushed.exit_code == 0, pushed.output
    assert pushed.stdout.splitlines()[1].strip() == f"pkd-student fit --cache {URL} --strategy skip"
    again = run(cache.cli, "push", world.cache16, "--repo", REPO, "--json")
    assert f"{REPO}: holds this cache already; nothing to do." in again.stderr
    assert json.loads(again.stdout)["address"] == URL
    assert run(cache.cli, "verify", URL).stdout == f"{URL}: sound\n"
    found = fit(world, URL, tmp_path / "remote")
    assert found.exit_code == 0, found.output
    assert re.search(rf"read {URL}: \d+ requests, [\d.]+ MB of", found.stderr)
    assert fit(world, world.cache16, tmp_path / "local").exit_code == 0
    one, other = (tmp_path / name / "model.safetensors" for name in ("remote", "local"))
    assert one.read_bytes() == other.read_bytes()

    told = run(student.cli, "push", tmp_path / "remote", "--repo", "ada/rte-2")
    assert told.exit_code == 0, told.output
    assert re.match(rf"{hub.endpoint}/ada/rte-2: \d+ files", told.stdout)
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(
        "ada/rte-2", cache_dir=tmp_path / "downloads"
    )
    local = AutoModelForSequenceClassification.from_pretrained(tmp_path / "local")
    pairs = zip(loaded.state_dict().values(), local.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_process_of_its_own_finds_the_hub_by_its_environment(
    world: World, hub: LocalHub, tmp_path: Path
) -> None:
    def pkd_cache(*words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        known = os.environ | environment(hub.endpoint) | {"PYTHONPATH": str(ROOT)}
        known |= {"HF_HOME": str(tmp_path / "home")} | changed
        return subprocess.run(
            [sys.executable, "-m", "stages.cache", *words],
            env=known, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    done = pkd_cache("push", str(world.cache16), "--repo", REPO)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    info = pkd_cache("info", URL, "--json")
    assert json.loads(info.stdout)["task"]["name"] == "rte"
    for changed, text in (
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_TOKEN": ""}, "`hf auth login`, or set HF_TOKEN"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "no answer from http://127.0.0.1:9"),
    ):
        refused = pkd_cache("push", str(world.cache16), "--repo", REPO, **changed)
        assert refused.returncode == 1
        assert text in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr


def test_mistakes(world: World, hub: LocalHub, tmp_path: Path) -> None:
    for arguments, code, text in (
        ((cache.cli, "push", world.cache16), 2, "Missing option '--repo'"),
        ((cache.cli, "push", tmp_path / "none.zarr", "--repo", REPO), 1, "no such cache"),
        ((cache.cli, "push", world.cache16, "--repo", "team/x"), 1, "your token may not do that"),
        ((cache.cli, "copy", world.cache16, URL), 1, "pkd-cache push"),
        ((student.cli, "push", tmp_path / "none", "--repo", "ada/x"), 1, "no such student"),
    ):
        found = run(*arguments)
        assert found.exit_code == code, found.output
        assert text in found.stderr
        assert "Traceback" not in found.output
    assert not hub.repos
