"""pytest tests/test_dvc_kills.py - a `dvc repro` that is killed, and the build that outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from filelock import FileLock

from stages.cache import cli
from tests.support.synthetic import files_of
from tests.support.tiny import World

ROOT = Path(__file__).parent.parent
BUILD = ["build", "--task", "rte", "--shard-rows", "10"]
LONGEST = 200  # seconds

# The command of the stage. While there is a file `hold` it stops after the fourth of fifteen
# training shards.
COMMAND = """
import os, time
from pathlib import Path
from pipeline.store.writer import CacheWriter
from stages.cache import cli

write_shard = CacheWriter.write_shard

def write_and_wait(writer, split, shard, *values, **more):
    write_shard(writer, split, shard, *values, **more)
    while (split, shard) == ("train", 3) and Path("hold").exists():
        Path("processes").write_text(f"{os.getpid()} {os.getppid()}")
        time.sleep(0.01)

CacheWriter.write_shard = write_and_wait
cli(prog_name="pkd-cache")
"""


class Repository:
    """One DVC stage that builds a cache."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        for name in ("raw", "teachers"):
            shutil.copytree(world.root / "data" / name, folder / "data" / name)
        (folder / "command.py").write_text(COMMAND)
        command = [sys.executable, "command.py", *BUILD]
        stage = {
            "cmd": f"{' '.join(command)} && echo done",  # so that there is a shell, too
            "deps": ["data/raw/rte", "data/teachers/rte"],
            "outs": ["data/rte.zarr"],
        }
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"cache": stage}}))
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text(
            "[core]\n    no_scm = true\n    analytics = false\n"
        )

    @property
    def target(self) -> Path:
        return self.folder / "data" / "rte.zarr"

    @property
    def records(self) -> int:
        """Shards that are finished."""
        return len(list((self.folder / "data" / ".rte.zarr.records").glob("*/0*.json")))

    @property
    def log(self) -> str:
        """What the last `dvc repro` printed."""
        return (self.folder / "log").read_text()

    def start(self) -> subprocess.Popen[bytes]:
        """Start `dvc repro` in a session of its own."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro"], cwd=self.folder, env=environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def repro(self) -> int:
        """Exit code of a whole `dvc repro`."""
        return self.start().wait(LONGEST)

    def held(self) -> tuple[int, int]:
        """Process ids of the build that waits at `hold` and of the shell that started it."""
        command, shell = (self.folder / "processes").read_text().split()
        return int(command), int(shell)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.soak_only
def test_a_killed_repro_leaves_an_orphan_and_the_next_one_goes_on_after_it(
    world: World, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed.zarr"
    places = {"--data": world.raw, "--teacher": world.teacher, "--out": undisturbed}
    texts = [str(each) for pair in places.items() for each in pair]
    assert CliRunner().invoke(cli, [*BUILD, *texts]).exit_code == 0
    (tmp_path / "team").mkdir()
    repository = Repository(tmp_path / "team", world)
    hold = repository.folder / "hold"
    hold.touch()
    shutil.copytree(world.cache, repository.target)  # an older output; DVC deletes it

    first = repository.start()
    wait_for(lambda: (repository.folder / "processes").exists() or first.poll() is not None)
    assert first.poll() is None, repository.log
    wait_for(lambda: (repository.folder / "processes").read_text())
    orphan, shell = repository.held()
    for each in (first.pid, shell):
        os.kill(each, signal.SIGKILL)
    first.wait()
    assert not repository.target.exists()
    done = repository.records
    assert done == 4 + 4  # of validation, of train

    assert repository.repro() != 0
    assert "data/rte.zarr: another process is making it" in repository.log
    assert ".rte.zarr.lock" in repository.log
    os.kill(orphan, 0)  # lives
    assert repository.records == done

    os.kill(orphan, signal.SIGKILL)
    with FileLock(str(repository.folder / "data" / ".rte.zarr.lock"), timeout=LONGEST):
        hold.unlink()
    assert repository.repro() == 0, repository.log
    assert f"{done} shards were there already" in repository.log
    assert files_of(repository.target) == files_of(undisturbed)

    assert repository.repro() == 0, repository.log
    assert "Running stage" not in repository.log
