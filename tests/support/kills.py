"""Processes that die at a chosen moment, and a disk that forgets what was not made durable.

`Moments` replaces, in a process of its own, the functions by which Python changes a disk. A moment
lies before every change, in the middle of every write, and at the end; so just after a change is
just before the next one. Linux only: it reads /proc.
"""

from __future__ import annotations

import builtins
import ctypes
import io
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import pipeline.files
from pipeline.store.manifest import read_manifest
from stages.cache import cli
from tests.support.synthetic import SHARD, plan, write

ROOT = Path(__file__).parents[2]
IMPORTED = (  # before the first fork; no more than that: a process with threads cannot be forked
    "filelock", "pandas", "pipeline.caching.build", "pyarrow.ipc", "pytest", "torch",
    "transformers", "transformers.models.bert.modeling_bert", "zarr.codecs",
)  # fmt: skip
ROWS = 8 * SHARD + 5  # nine shards, the last one short
SHARDS = range(9)
OLD: dict[str, Any] = {"identity": {"teacher": "old"}, "dtype": "float32", "layers": (1, 2, 3)}

LONGEST_BUILD = 100  # seconds; one takes a fraction of a second
CHANGES = ("chmod", "fsync", "link", "mkdir", "remove", "rename", "replace", "rmdir", "unlink")
NAMING = ("link", "mkdir", "rename", "replace")

Inode = tuple[int, int]
Undo = Callable[[], object]


class Unsynced:
    """What a power cut would take now: contents and names that no fsync has made durable.

    Stricter than any file system: a name is safe only when its folder was synced since, and of
    those that are not, any may go while later changes stay.
    """

    def __init__(self) -> None:
        self._contents: set[Inode] = set()
        self._names: list[tuple[Inode, Undo]] = []

    def wrote(self, descriptor: int) -> None:
        """Take note of new contents."""
        self._contents.add(_inode(os.fstat(descriptor)))

    def named(self, folder: Path, undo: Undo) -> None:
        """Take note of a new name in a folder, and how it goes again."""
        self._names.append((_inode(folder.stat()), undo))

    def synced(self, descriptor: int) -> None:
        """Take note of an fsync of a file or a folder."""
        inode = _inode(os.fstat(descriptor))
        self._contents.discard(inode)
        self._names = [each for each in self._names if each[0] != inode]

    def lose(self, what: str, root: Path) -> None:
        """Cut the power: unsynced contents are `emptied` or `halved`, or unsynced `names` go."""
        if what == "names":
            for _, undo in reversed(self._names):
                with suppress(OSError):
                    undo()
            return
        for path in root.rglob("*"):
            found = path.stat()
            if path.is_file() and _inode(found) in self._contents:
                os.truncate(path, found.st_size // 2 if what == "halved" else 0)


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a process ends."""

    moment: int | None
    """Number of the moment, from 0; None to live on."""
    loss: str | None = None
    """What the disk forgets then, see `Unsynced.lose`; None: nothing, as after a kill."""
    exchanges: bool = True
    """Whether the system can swap two names in one call."""


class Moments:
    """Counts the moments of this process's work below a folder, and ends it at one of them.

    Args of the constructor:
        root: changes elsewhere do not count.
        death: which one, and what goes with it.
        tell: is sent the moment's name before the end.
    """

    def __init__(self, root: Path, death: Death, tell: Connection) -> None:
        self.root, self.death, self.tell = root, death, tell
        self.labels: list[str] = []
        self.unsynced = Unsynced()
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in CHANGES}
        self._real_open, self._real_exchange = io.open, pipeline.files.exchange

    def install(self) -> None:
        """Replace the functions; this process never gets them back, unless it is to die."""
        for name in CHANGES:
            setattr(os, name, partial(self._change, name))
        io.open = builtins.open = self._open
        if self.death.exchanges:
            pipeline.files.exchange = self._exchange
        else:  # its two renames are counted instead
            patch.object(ctypes, "CDLL", _SystemWithoutExchange).start()

    def reach(self, label: str) -> None:
        """Pass a moment, or die in it."""
        with self._lock:
            self.labels.append(label)
            if len(self.labels) - 1 == self.death.moment:
                self._die(label)

    def _die(self, label: str) -> NoReturn:
        for name, function in self._real.items():
            setattr(os, name, function)
        if self.death.loss:
            self.unsynced.lose(self.death.loss, self.root)
        self.tell.send(label)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def _change(self, name: str, place: Any, *more: Any, **options: Any) -> Any:
        path = _path_of(place, options.get("dir_fd"))
        if not path.is_relative_to(self.root):
            return self._real[name](place, *more, **options)
        made = Path(more[0]) if name in ("link", "rename", "replace") else path
        self.reach(f"{name} {made.relative_to(self.root)}")
        new = name in NAMING and not made.exists()
        result = self._real[name](place, *more, **options)
        if new:
            self.unsynced.named(made.parent, self._undo_of(name, path, made))
        if name == "fsync":
            self.unsynced.synced(place)
        return result

    def _undo_of(self, name: str, path: Path, made: Path) -> Undo:
        match name:
            case "mkdir":
                return partial(shutil.rmtree, made)
            case "link":
                return made.unlink
        return partial(self._real["rename"], made, path)

    def _open(self, file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if isinstance(file, int) or mode not in ("wb", "xb"):
            return self._real_open(file, mode, *more, **options)
        path = _path_of(file)
        if not path.is_relative_to(self.root):
            return self._real_open(file, mode, *more, **options)
        self.reach(f"open {path.relative_to(self.root)}")
        new = not path.exists()
        opened = _CountedFile(self, path, mode)
        if new:
            self.unsynced.named(path.parent, path.unlink)
        return io.BufferedWriter(opened)

    def _exchange(self, one: Path, other: Path) -> None:
        self.reach(f"exchange {one.name} {other.name}")
        self._real_exchange(one, other)

        def undo() -> None:
            if one.exists():
                self._real_exchange(one, other)
            else:  # what was swapped out is deleted already
                other.rename(one)

        self.unsynced.named(other.parent, undo)


class _SystemWithoutExchange:
    """A C library without `renameat2`."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


class _CountedFile(io.FileIO):
    """A file opened for writing, with a moment before and in the middle of each write."""

    def __init__(self, moments: Moments, path: Path, mode: str) -> None:
        super().__init__(path, mode.replace("b", ""))
        self._moments = moments
        self._label = str(path.relative_to(moments.root))

    def write(self, content: Any) -> int:
        """Write in two halves."""
        whole = bytes(content)
        written = 0
        for label, part in (
            ("write", whole[: len(whole) // 2]),
            ("half of", whole[len(whole) // 2 :]),
        ):
            self._moments.reach(f"{label} {self._label}")
            self._moments.unsynced.wrote(self.fileno())
            written += super().write(part)
        return written


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _path_of(place: Any, folder: int | None = None) -> Path:
    """Absolute path of what a function of `os` was given."""
    if isinstance(place, int):
        return Path(f"/proc/self/fd/{place}").readlink()
    base = Path.cwd() if folder is None else Path(f"/proc/self/fd/{folder}").readlink()
    return base / os.fsdecode(place)


def build(target: Path) -> list[int]:
    """`synthetic.write` as `build --overwrite` runs it; returns the shards that were written."""
    wanted = plan().cache_id
    if target.exists() and read_manifest(target).cache_id == wanted:
        return []
    return write(target, rows=ROWS)


def _doomed_build(target: Path, death: Death, tell: Connection) -> None:
    moments = Moments(target.parent, death, tell)
    moments.install()
    build(target)
    moments.reach("the end")
    tell.send(moments.labels)


def _command(arguments: list[str], folder: Path, log: Path) -> None:
    import torch

    os.setsid()
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    cli(arguments)


class Forks:
    """Starts processes that have all imports done, from a server that never ran anything."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*IMPORTED, __name__])
        with patch.dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"):
            forkserver.ensure_running()

    def moments(self, target: Path, **how: Any) -> list[str]:
        """Build a synthetic cache undisturbed and name its moments; `how` as for `Death`."""
        exit_code, said = self._build(target, Death(moment=None, **how))
        assert exit_code == 0
        assert isinstance(said, list)
        return said

    def kill_build(self, target: Path, moment: int, **how: Any) -> str:
        """Build a synthetic cache in a process that dies; returns the moment's name."""
        exit_code, said = self._build(target, Death(moment=moment, **how))
        assert exit_code == -signal.SIGKILL, f"moment {moment}: exit code {exit_code}, {said}"
        return str(said)

    def _build(self, target: Path, death: Death) -> tuple[int | None, Any]:
        here, there = self._context.Pipe(duplex=False)
        with here:
            process = self._context.Process(target=_doomed_build, args=(target, death, there))
            process.start()
            there.close()
            said = None
            with suppress(EOFError):  # it ended without a word, which its exit code tells
                said = here.recv() if here.poll(LONGEST_BUILD) else "nothing in time"
            if said == "nothing in time":
                process.kill()
            process.join()
            return process.exitcode, said

    def command(self, arguments: list[str], folder: Path, log: Path) -> BaseProcess:
        """Start `pkd-cache` in a process group of its own."""
        process = self._context.Process(target=_command, args=(arguments, folder, log))
        process.start()
        return process
