"""Files that are whole or absent: canonical JSON, atomic writes, folders published at once."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import DataError

RENAME_EXCHANGE = 2  # linux/fs.h
AT_FDCWD = -100
FULL_DISK_SIGNS = (
    "os error 28",
    "os error 27",
    "os error 122",
    "PytorchStreamWriter",
    "inline_container",
)


def canonical_json(value: object) -> bytes:
    """The one byte string for a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def read_json(path: Path) -> Any:
    """Parse a JSON file; raises DataError that names the file when it is missing or malformed."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}).") from None


def write_json(path: Path, value: object) -> None:
    """Write a record for people and machines: sorted keys, indented, atomically."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the old file or the new one, even after a power cut."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write, which gets its name when all went well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make every file and folder below `folder` durable, before the rename that publishes it."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def partial_path(target: Path) -> Path:
    """Where `target` is built: a hidden sibling, on the same file system, never a DVC out."""
    return target.parent / f".{target.name}.partial"


def publish(partial: Path, target: Path) -> None:
    """Turn a finished partial folder into `target` by one rename; an old one is swapped out whole.

    At no moment is there neither: on Linux the two names are exchanged in one system call.
    """
    share_as_folder(partial)
    sync_tree(partial)
    if target.exists():
        exchange(partial, target)
        sync_folder(target.parent)  # a power cut must not undo the exchange after the removal
        shutil.rmtree(partial)
    else:
        partial.rename(target)
        sync_folder(target.parent)


def share_as_folder(folder: Path) -> None:
    """Let who may read the folder read its files: safetensors writes them for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn the errors that torch and safetensors make of a full disk into the system's own."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        if any(sign in text for sign in FULL_DISK_SIGNS):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def exchange(one: Path, other: Path) -> None:
    """Swap two paths atomically, or by two renames where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        paths = (os.fsencode(one), os.fsencode(other))
        if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    aside = other.with_name(f".{other.name}.old")
    shutil.rmtree(aside, ignore_errors=True)  # of an exchange that was killed after its last step
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield an empty partial folder; publish it as `target`, or remove it on any failure."""
    partial = partial_path(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        publish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def folder_size_bytes(folder: Path) -> int:
    """Total size of the files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
