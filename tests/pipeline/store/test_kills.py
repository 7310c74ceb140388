"""pytest tests/pipeline/store/test_kills.py - a build that dies ends with the same bytes.

Injected moments are those of a synthetic cache without a teacher; random ones those of the real
command. `make soak` tries every moment.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from tests.support import tiny
from tests.support.kills import OLD, ROWS, SHARDS, Forks, build
from tests.support.synthetic import files_of, write
from tests.support.tiny import World

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

SOAK = bool(os.environ.get("PKD_SOAK"))
RANDOM_KILLS = 30 if SOAK else 2
LOSSES = ("emptied", "halved", "names")
SPLIT_ROWS = {
    "train": tiny.ROWS["train"],
    "validation": tiny.ROWS["dev"],
    "test": tiny.ROWS["test"],
}
SHARD_ROWS = 10
TRAIN_SHARDS = 15
RECORD = re.compile(r"replace \.c\.zarr\.records/train/\d+\.json")

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@contextmanager
def folder_in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder that never waits for a disk, where the system has one: trials are many."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(prefix="pkd-", dir=memory if usable else otherwise) as folder:
        yield Path(folder)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with folder_in_memory(tmp_path) as folder:
        yield folder


def spread(first: int, stop: int, count: int) -> list[int]:
    """All numbers in a soak, else `count` of them, evenly spread, with both ends."""
    if SOAK:
        return list(range(first, stop))
    return sorted({int(each) for each in np.linspace(first, stop - 1, count).round()})


def recorded(target: Path, split: str = "train") -> set[int]:
    """Shards that have a record."""
    folder = target.parent / f".{target.name}.records" / split
    return {int(path.stem) for path in folder.glob("*.json") if path.name[0] != "."}


def leftovers(target: Path) -> list[str]:
    """What is beside a cache, its lock apart."""
    beside = {path.name for path in target.parent.iterdir()}
    return sorted(beside - {target.name, f".{target.name}.lock"})


# --- the writer alone, at injected moments -------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_from_the_last_finished_shard(
    forks: Forks, memory: Path, record_property: Record
) -> None:
    names = forks.moments(memory / "whole" / "c.zarr")
    whole = files_of(memory / "whole" / "c.zarr")
    between, trials = 0, spread(0, len(names), 20)
    for number in trials:
        target = memory / str(number) / "c.zarr"
        name = forks.kill_build(target, number)
        done, published = recorded(target), target.exists()
        between += 0 < len(done) < len(SHARDS)
        if published:
            assert files_of(target) == whole, name
        written = build(target)
        assert files_of(target) == whole, name
        if not published:
            assert written == sorted(set(SHARDS) - done), name
            assert leftovers(target) == [], name
        shutil.rmtree(target.parent)
    record_property("moments at which a build changes the disk", len(names))
    record_property("kills at injected moments, all resumed to the same bytes", len(trials))
    record_property("of them after the first and before the last shard", between)
    assert between


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(
    forks: Forks, memory: Path, record_property: Record
) -> None:
    names = forks.moments(memory / "whole" / "c.zarr")
    whole = files_of(memory / "whole" / "c.zarr")
    trials = spread(0, len(names), 15)
    for trial, number in enumerate(trials):
        target, loss = memory / str(number) / "c.zarr", LOSSES[trial % len(LOSSES)]
        name = f"{loss} at: {forks.kill_build(target, number, loss=loss)}"
        done, published = recorded(target), target.exists()
        if published:
            assert files_of(target) == whole, name
        written = build(target)
        assert files_of(target) == whole, name
        if not published and loss != "names":
            assert written == sorted(set(SHARDS) - done), name
        shutil.rmtree(target.parent)
    record_property("power cuts at injected moments, all resumed to the same bytes", len(trials))


@pytest.mark.parametrize(
    ("exchanges", "loss"),
    [
        pytest.param(True, None, id="exchange"),
        pytest.param(False, None, id="renames"),
        pytest.param(True, "names", id="power cut"),
    ],
)
def test_killed_while_it_replaces_a_cache_one_of_the_two_is_there(
    forks: Forks, memory: Path, record_property: Record, exchanges: bool, loss: str | None
) -> None:
    """From the last finished shard on; before that nothing differs from any other build."""
    write(memory / "old.zarr", rows=ROWS, **OLD)
    old = files_of(memory / "old.zarr")

    def with_old(name: str) -> Path:
        shutil.copytree(memory / "old.zarr", memory / name / "c.zarr")
        return memory / name / "c.zarr"

    names = forks.moments(with_old("whole"), exchanges=exchanges)
    whole = files_of(memory / "whole" / "c.zarr")
    swap = max(place for place, name in enumerate(names) if name.startswith(("exchange", "rename")))
    last = max(place for place, name in enumerate(names) if RECORD.fullmatch(name))
    trials = sorted({*spread(last, len(names), 8), swap, swap + 1, swap + 2})
    for number in trials:
        target = with_old(str(number))
        name = forks.kill_build(target, number, exchanges=exchanges, loss=loss)
        there = target if exchanges or target.exists() else target.with_name(".c.zarr.old")
        assert files_of(there) in (old, whole), name
        build(target)
        assert files_of(target) == whole, name
        shutil.rmtree(target)  # as `dvc repro` does
        build(target)
        assert files_of(target) == whole, name
        assert leftovers(target) in ([], [] if exchanges else [".c.zarr.old"]), name
        shutil.rmtree(target.parent)
    record_property("kills while a cache was replaced, one of the two always whole", len(trials))


def test_killed_again_and_again_it_still_ends(forks: Forks, memory: Path) -> None:
    target = memory / "c.zarr"
    kills, done = 0, set[int]()
    while len(done) < len(SHARDS):
        forks.kill_build(target, 130)
        kills += 1
        assert recorded(target) > done
        done = recorded(target)
    assert build(target) == []
    write(memory / "whole.zarr", rows=ROWS)
    assert files_of(target) == files_of(memory / "whole.zarr")
    assert kills > 2


DAMAGED = [
    ".c.zarr.partial/train/cls/c/1/0/0",
    ".c.zarr.partial/train/logits/c/2/0",
    ".c.zarr.partial/train/examples.arrow",
    ".c.zarr.records/train/000001.json",
    ".c.zarr.records/plan.json",
    ".c.zarr.partial/train/cls/zarr.json",
    ".c.zarr.partial/train/zarr.json",
    ".c.zarr.partial/zarr.json",
]


@pytest.mark.parametrize("damage", ["missing", "emptied", "halved"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_damaged_between_the_builds_is_written_again(
    memory: Path, name: str, damage: str
) -> None:
    write(memory / "whole.zarr", rows=ROWS)
    with pytest.raises(KeyboardInterrupt):
        write(memory / "c.zarr", rows=ROWS, stop_after=4)
    path = memory / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "halved" else 0])
    written = build(memory / "c.zarr")
    assert set(range(4, len(SHARDS))) <= set(written)
    assert files_of(memory / "c.zarr") == files_of(memory / "whole.zarr")


# --- the real command ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """`pkd-cache build` in a process that can be stopped at any time."""

    forks: Forks
    world: World
    folder: Path

    @property
    def target(self) -> Path:
        return self.folder / "rte.zarr"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> BaseProcess:
        """Fifteen training shards, after four of validation."""
        self.folder.mkdir(exist_ok=True)
        options = {
            "--task": "rte", "--data": self.world.raw, "--teacher": self.world.teacher,
            "--out": self.target, "--metrics": self.folder / "metrics.json",
            "--shard-rows": SHARD_ROWS,
        }  # fmt: skip
        texts = [str(each) for pair in options.items() for each in pair]
        return self.forks.command(["build", *texts], self.folder, self.folder / "log")

    def run(self) -> int | None:
        process = self.start()
        process.join()
        return process.exitcode

    def start_on_train(self) -> BaseProcess:
        """Start, and wait for the first training shard."""
        process = self.start()
        self.wait_for_train(process, 1)
        return process

    def wait_for_train(self, process: BaseProcess, shards: int) -> None:
        """Wait for so many training shards, or for the end."""
        while len(recorded(self.target)) < shards and process.is_alive():
            time.sleep(0.001)


@dataclass(frozen=True)
class Whole:
    """An undisturbed build."""

    files: dict[str, bytes]
    seconds: float
    """From its first training shard to its last."""


@pytest.fixture(scope="module")
def whole(forks: Forks, world: World, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    with folder_in_memory(tmp_path_factory.mktemp("whole")) as folder:
        command = Command(forks, world, folder)
        process = command.start_on_train()
        start = time.monotonic()
        command.wait_for_train(process, TRAIN_SHARDS)
        seconds = time.monotonic() - start
        process.join()
        assert process.exitcode == 0, command.log
        return Whole(files_of(command.target), seconds)


def kill(process: BaseProcess) -> None:
    """Its whole group, without a warning."""
    assert process.pid
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def rows_left(target: Path) -> int:
    """Rows of all shards without a record."""
    left = 0
    for split, rows in SPLIT_ROWS.items():
        missing = set(range(-(-rows // SHARD_ROWS))) - recorded(target, split)
        left += sum(min(SHARD_ROWS, rows - shard * SHARD_ROWS) for shard in missing)
    return left


def rows_done(log: str) -> int:
    """Rows that a build computed or copied from a row that is the same."""
    found = [re.search(p, log) for p in (r"computed (\d+) rows", r"(\d+) repeat another row")]
    return sum(int(each[1]) for each in found if each)


def test_the_command_killed_at_random_moments_computes_no_finished_shard_again(
    forks: Forks, world: World, memory: Path, whole: Whole, record_property: Record
) -> None:
    """Only kills between the first and the last training shard count; others are checked too."""
    draw, between, others = random.Random(0), list[int](), 0
    while len(between) < RANDOM_KILLS:
        assert others < 5 * RANDOM_KILLS, "kills hardly ever hit"
        command = Command(forks, world, memory / str(len(between) + others))
        process = command.start_on_train()
        time.sleep(draw.uniform(0, whole.seconds))
        kill(process)
        published, left = command.target.exists(), rows_left(command.target)
        splits = {split: recorded(command.target, split) for split in SPLIT_ROWS}
        found, of_train = sum(map(len, splits.values())), len(splits["train"])
        if published:
            assert files_of(command.target) == whole.files
        assert command.run() == 0, command.log
        assert files_of(command.target) == whole.files
        if published:
            assert process.exitcode == 0 or "nothing to do" in command.log
        else:
            assert f"{found} shards were there already" in command.log
            assert rows_done(command.log) == left, command.log
        if not published and 0 < of_train < TRAIN_SHARDS:
            between.append(of_train)
        else:
            others += 1
    record_property("random kills of the command, all resumed to the same bytes", len(between))
    record_property("training shards that were finished then, of 15", str(sorted(between)))


def stopped_builder(forks: Forks, world: World, root: Path) -> tuple[Command, BaseProcess]:
    """A build that holds still in the middle of its training shards."""
    for attempt in range(20):
        command = Command(forks, world, root / str(attempt))
        process = command.start_on_train()
        with suppress(ProcessLookupError, FileNotFoundError):
            assert process.pid
            os.killpg(process.pid, signal.SIGSTOP)
            while " T " not in Path(f"/proc/{process.pid}/stat").read_text():
                time.sleep(0.001)
            if recorded(command.target) and not command.target.exists():
                return command, process
        kill(process)
    raise AssertionError("too fast to be stopped")


def test_of_two_builders_one_is_refused_until_the_other_dies(
    forks: Forks, world: World, memory: Path, whole: Whole
) -> None:
    command, first = stopped_builder(forks, world, memory)
    before = files_of(command.folder / ".rte.zarr.partial")
    assert command.run() == 1
    assert "another process is making it" in command.log
    assert ".rte.zarr.lock" in command.log
    assert files_of(command.folder / ".rte.zarr.partial") == before
    kill(first)
    assert command.run() == 0, command.log
    assert "shards were there already" in command.log
    assert files_of(command.target) == whole.files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    if not shutil.which("mount"):
        pytest.skip("there is no `mount` here")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def test_a_disk_that_fills_up_in_the_middle_of_the_shards(
    forks: Forks, world: World, small_disk: Path, whole: Whole
) -> None:
    """Half of the room that an undisturbed build takes; then the same command with enough."""
    command = Command(forks, world, small_disk / "undisturbed")
    empty = free_bytes(small_disk)
    assert command.run() == 0, command.log
    needed = empty - free_bytes(small_disk)
    shutil.rmtree(command.folder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(empty - needed // 2))

    command = Command(forks, world, small_disk / "full")
    assert command.run() == 1
    assert "the disk is full" in command.log
    assert "Traceback" not in command.log
    assert not command.target.exists()
    assert 0 < len(recorded(command.target)) < TRAIN_SHARDS
    left = rows_left(command.target)

    ballast.unlink()
    assert command.run() == 0, command.log
    assert rows_done(command.log) == left
    assert files_of(command.target) == whole.files
