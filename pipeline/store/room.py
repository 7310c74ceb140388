"""Room for what is read: memory, or a memory map once it would not fit."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

import numpy as np

SHARE_OF_FREE_MEMORY = 0.5

Array = np.ndarray[Any, Any]


def memory_budget() -> int:
    """Bytes that one array may take: half of what is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(SHARE_OF_FREE_MEMORY * free)


def room_for(shape: tuple[int, ...], dtype: str, budget_bytes: int | None = None) -> Array:
    """An uninitialised array, in memory or on disk.

    Args:
        shape: of the array.
        dtype: of the array.
        budget_bytes: beyond this it is a memory map of a file in the system's temporary folder
            (`TMPDIR`) that has no name any more: it goes when the array does, even after a crash.
            None = `memory_budget()`.

    Raises:
        OSError: the temporary folder has no room.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= (memory_budget() if budget_bytes is None else budget_bytes):
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="pkd-") as file:  # the map has a descriptor of its own
        # a full disk is an error now, not a signal later
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def let_go(array: Array) -> None:
    """Give the memory of a memory map back to the system; its file keeps the values."""
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap):
        mapped.flush()
        mapped.madvise(mmap.MADV_DONTNEED)
