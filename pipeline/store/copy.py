"""Copying a cache between folders and fsspec URLs: resumable, read back, manifest last.

A local target is made beside its place and swapped in whole. A URL knows no swap: there the old
manifest goes first and the new one comes last, so that nothing in between looks like a cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import CacheCorruptError, CacheError, ParamsError
from pipeline.files import publish, write_atomic
from pipeline.locks import locked
from pipeline.progress import Tick, silent
from pipeline.store.format import MANIFEST
from pipeline.store.hub import HubPlace
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.occupant import FILE_OF_A_CACHE, holds
from pipeline.store.place import LocalPlace, Place, damaged, place_of
from pipeline.store.remote import PIECE_BYTES, RemotePlace
from pipeline.store.upload import RemoteTarget


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a copy did."""

    manifest: Manifest
    existed: bool
    """Whether the target was the same cache already."""
    copied_files: int = 0
    copied_bytes: int = 0
    kept_files: int = 0
    """Already there, with the right bytes, from a copy that was stopped."""
    kept_bytes: int = 0
    seconds: float = 0.0


def copy_cache(
    source: Path | str, target: Path | str, *, overwrite: bool = False, tick: Tick = silent
) -> Copied:
    """Copy a cache; every file is compared with the manifest when it is read and when it is there.

    Promises: a target that has a manifest is whole; a copy that was stopped goes on when it is
    called again; memory of some pieces, however large a file is; two copies into one local folder
    never meet. Does not: lock a URL, where two copies of one cache do no harm and two of different
    caches end in an error.

    Args:
        source: a folder, or any fsspec URL.
        target: likewise.
        overwrite: replace another cache; also read the bytes of one that looks the same, and
            replace it when they differ.
        tick: told of bytes.

    Raises:
        CacheError: no cache at the source, a storage that does not answer, no such bucket.
        CacheCorruptError: a file of the source, or what was written, has other bytes than it must.
        OutputExistsError: another cache is at the target, or what is no cache, which is never
            replaced.
        ParamsError: one of the two is inside of the other, or the target is on the Hub.
        BusyError: another process makes the same local folder.
    """
    origin, goal = place_of(source), place_of(target)
    if isinstance(goal, HubPlace):
        raise ParamsError(
            f"{goal.text}: a repository of the Hub takes commits, no single files: "
            f"`pkd-cache push {origin.text} --repo USER/NAME` makes them."
        )
    manifest = read_manifest(origin)
    if isinstance(goal, LocalPlace):
        goal = LocalPlace(_real(goal.path))  # through a link, not in its place
    _require_apart(origin, goal)
    if holds(goal, manifest, overwrite=overwrite):
        _forget_incoming(goal)
        return Copied(manifest=manifest, existed=True)
    if isinstance(goal, LocalPlace):
        return _to_folder(origin, goal, manifest, overwrite=overwrite, tick=tick)
    assert isinstance(goal, RemotePlace)
    return _to_remote(origin, goal, manifest, tick)


def _require_apart(origin: Place, goal: Place) -> None:
    one, other = (_address(place) for place in (origin, goal))
    if one[0] == other[0] and (
        f"{one[1]}/".startswith(f"{other[1]}/") or f"{other[1]}/".startswith(f"{one[1]}/")
    ):
        raise ParamsError(
            f"{goal.text}: is {origin.text}, or one is inside of the other; choose another target."
        )


def _address(place: Place) -> tuple[object, str]:
    """What can be compared: the file system, and the folder in it."""
    if isinstance(place, RemotePlace):
        return place.fs, place.root
    assert isinstance(place, LocalPlace)
    return "local", str(_real(place.path))


def _real(path: Path) -> Path:
    """`Path.resolve` raises for a link to itself, and not in each version of Python the same."""
    return Path(os.path.realpath(path))


# --- the two kinds of target ---------------------------------------------------------------------


class _Target(Protocol):
    """Where files are written; the place that they are read back from."""

    @property
    def place(self) -> Place: ...

    def write(self, name: str, size: int, pieces: Iterator[bytes]) -> None: ...


def _to_folder(
    origin: Place, goal: LocalPlace, manifest: Manifest, *, overwrite: bool, tick: Tick
) -> Copied:
    with locked(goal.path):
        if holds(goal, manifest, overwrite=overwrite):  # another copy may just have finished
            return Copied(manifest=manifest, existed=True)
        incoming = _incoming(goal)
        _clear(incoming, manifest)
        done = _copy_files(origin, _Folder(LocalPlace(incoming)), manifest, tick)
        write_atomic(incoming / MANIFEST, manifest.to_bytes())
        publish(incoming, goal.path)
    return done


def _incoming(goal: LocalPlace) -> Path:
    return goal.path.parent / f".{goal.path.name}.incoming"


def _clear(incoming: Path, manifest: Manifest) -> None:
    """Leave only what the cache has: an earlier copy may have been of another one."""
    kept = manifest.files.keys()
    for name, size in LocalPlace(incoming).sizes().items():
        if name not in kept or size is None:
            (incoming / name).unlink()
    folders = [path for path in incoming.rglob("*") if path.is_dir()]
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):  # one that is not empty
            folder.rmdir()


def _forget_incoming(goal: Place) -> None:
    """What a copy that was killed after its swap left: the cache that it replaced."""
    if isinstance(goal, LocalPlace) and _incoming(goal).exists():
        with locked(goal.path):
            shutil.rmtree(_incoming(goal))


@dataclass(frozen=True)
class _Folder:
    place: LocalPlace

    def write(self, name: str, size: int, pieces: Iterator[bytes]) -> None:  # noqa: ARG002
        path = self.place.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be one file under two names, by DVC
        with path.open("wb") as file:
            file.writelines(pieces)


def _to_remote(origin: Place, goal: RemotePlace, manifest: Manifest, tick: Tick) -> Copied:
    """Whenever this is stopped, what is there has no manifest, and `occupant.holds` takes it."""
    remote, there = RemoteTarget(goal), goal.sizes().keys()
    strays = sorted(there - manifest.files.keys() - {MANIFEST})
    for name in strays:
        if not FILE_OF_A_CACHE.fullmatch(name):
            remote.remove(name)
    if MANIFEST in there:
        remote.remove(MANIFEST)
    done = _copy_files(origin, remote, manifest, tick)
    for name in strays:
        if FILE_OF_A_CACHE.fullmatch(name):
            remote.remove(name)
    if goal.sizes() != manifest.sizes:
        raise CacheError(
            f"{goal.text}: has other files than were copied, so it got no {MANIFEST}; does "
            "something else write there? Run the same command again."
        )
    content = manifest.to_bytes()
    remote.write(MANIFEST, len(content), iter([content]))
    if goal.read(MANIFEST) != content:
        raise _changed(goal, MANIFEST)
    return done


# --- files ---------------------------------------------------------------------------------------


def _copy_files(origin: Place, target: _Target, manifest: Manifest, tick: Tick) -> Copied:
    """Bring every file of the manifest to the target, but for those that are there."""
    there, start = target.place.sizes(), time.monotonic()
    kept: list[int] = []
    copied: list[int] = []
    total, done = manifest.total_bytes, 0
    tick("bytes", done, total)
    for name, entry in sorted(manifest.files.items()):
        if there.get(name) == entry["size"] and target.place.digest(name) == entry["sha256"]:
            kept.append(entry["size"])
        else:

            def told(so_far: int, before: int = done) -> None:
                tick("bytes", before + so_far, total)

            _copy_file(origin, target, name, entry, told)
            copied.append(entry["size"])
        done += entry["size"]
        tick("bytes", done, total)
    return Copied(
        manifest=manifest,
        existed=False,
        copied_files=len(copied),
        copied_bytes=sum(copied),
        kept_files=len(kept),
        kept_bytes=sum(kept),
        seconds=time.monotonic() - start,
    )


def _copy_file(
    origin: Place,
    target: _Target,
    name: str,
    entry: Mapping[str, Any],
    told: Callable[[int], None],
) -> None:
    target.write(name, entry["size"], _checked(origin, name, entry, told))
    if target.place.digest(name) != entry["sha256"]:
        raise _changed(target.place, name)


def _changed(place: Place, name: str) -> CacheCorruptError:
    return CacheCorruptError(
        f"{place.text}/{name}: reads back other bytes than were written, so the copy has no "
        f"{MANIFEST} that is whole. Run the same command again; if it stays, look at the storage."
    )


def _checked(
    origin: Place, name: str, entry: Mapping[str, Any], told: Callable[[int], None]
) -> Iterator[bytes]:
    """A file of the source in pieces, the last one only when all have the bytes they must have."""
    digest, size = hashlib.sha256(), int(entry["size"])
    for start in range(0, size, PIECE_BYTES):
        stop = min(start + PIECE_BYTES, size)
        is_last = stop == size
        try:
            piece = origin.read(name, start, stop + is_last)  # a byte more tells a longer file
        except FileNotFoundError:
            raise _unfinished(origin, name, "is missing, or no plain file") from None
        if len(piece) != stop - start:
            raise _unfinished(origin, name, f"has not the {size:,} bytes that were written")
        digest.update(piece)
        if is_last and digest.hexdigest() != entry["sha256"]:
            raise _unfinished(origin, name, "has other bytes than were written (sha256)")
        yield piece
        if not is_last:
            told(stop)


def _unfinished(origin: Place, name: str, problem: str) -> CacheCorruptError:
    return damaged(origin, name, f"{problem}, so the copy was not finished")
