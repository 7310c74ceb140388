"""One builder of an output at a time; the system frees the lock when its process dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BusyError


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of `target`; raises BusyError at once when another process does."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.parent / f".{target.name}.lock"
    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{target}: another process is making it (lock {path}). Wait for it or stop it; "
            "a killed `dvc repro` can leave its command running."
        ) from None
    try:
        yield
    finally:
        lock.release()
