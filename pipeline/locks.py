"""One builder of an output at a time; the system frees the lock when its process dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of `target`; raises BusyError at once when another process does.

    A worker of an earlier builder that outlived it counts too.
    """
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(target.parent / f".{target.name}.lock"))
    _acquire(lock, target)
    try:
        for path in target.parent.glob(f".{target.name}.worker-*.lock"):
            worker = FileLock(str(path))
            _acquire(worker, target)
            worker.release()
        yield
    finally:
        lock.release()


@contextmanager
def locked_worker(target: Path, index: int) -> Iterator[None]:
    """Hold the lock of one worker of a builder that holds the lock of `target`."""
    from filelock import FileLock

    lock = FileLock(str(target.parent / f".{target.name}.worker-{index}.lock"))
    _acquire(lock, target)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: Any, target: Path) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{target}: another process is making it (lock {lock.lock_file}). Wait for it or stop "
            "it; a killed `dvc repro` or `torchrun` can leave its command running."
        ) from None
