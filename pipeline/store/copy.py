"""Copying a cache between folders and fsspec URLs: resumable, verified, manifest last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from pipeline.errors import CacheCorruptError, CacheError, OutputExistsError
from pipeline.files import publish
from pipeline.locks import locked
from pipeline.progress import Tick, silent
from pipeline.store.format import MANIFEST
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.place import (
    PIECE_BYTES,
    LocalPlace,
    Place,
    RemotePlace,
    naming_remote_errors,
    place_of,
)

FILE_OF_A_CACHE = re.compile(
    r"zarr\.json|[a-z][a-z0-9_]*/(zarr\.json|examples\.arrow|"
    r"(cls|cls_scale|logits)/(zarr\.json|c/\d+/0(/0)?))"
)


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a copy did."""

    manifest: Manifest
    existed: bool
    """Whether the target was the same cache already."""
    copied_files: int = 0
    kept_files: int = 0
    """Already there from an earlier, unfinished copy."""
    copied_bytes: int = 0


def copy_cache(
    source: Path | str, target: Path | str, *, overwrite: bool = False, tick: Tick = silent
) -> Copied:
    """Copy a cache; what is there afterwards is compared with the manifest, byte by byte.

    A copy that was stopped is not a cache yet (it has no manifest), and the same command goes on.

    Args:
        source: a folder or any fsspec URL.
        target: likewise.
        overwrite: replace another cache; never anything else.
        tick: told of bytes.

    Raises:
        CacheError: no cache at the source, or a storage that does not answer.
        CacheCorruptError: a file of the source, or of the finished copy, is not what was written.
        OutputExistsError: something else is at the target.
        BusyError: another process writes to the same folder.
    """
    origin, goal = place_of(source), place_of(target)
    manifest = read_manifest(origin)
    if _holds(goal, manifest, overwrite=overwrite):
        return Copied(manifest=manifest, existed=True)
    if isinstance(goal, LocalPlace):
        return _to_folder(origin, goal.path, manifest, tick)
    return _to_remote(origin, cast("RemotePlace", goal), manifest, tick)


def _holds(goal: Place, manifest: Manifest, *, overwrite: bool) -> bool:
    """Whether the target is this cache already; raises OutputExistsError when it is another."""
    if goal.size(MANIFEST) is None:
        _require_room(goal, manifest, overwrite=overwrite)
        return False
    try:
        found = read_manifest(goal)
    except CacheError as error:
        problem = f"holds a damaged cache ({error})"
    else:
        if found.content_digest == manifest.content_digest and _sizes_fit(goal, manifest):
            return True
        problem = f"holds another cache ({found.task['name']}, cache_id {found.cache_id[:12]})"
        if found.content_digest == manifest.content_digest:
            problem = "holds this cache, damaged"
    if overwrite:
        return False
    raise OutputExistsError(f"{goal.text}: {problem}; pass --overwrite to replace it.")


def _require_room(goal: Place, manifest: Manifest, *, overwrite: bool) -> None:
    """Refuse a target that holds anything but files of an unfinished copy.

    One that was to replace another cache leaves files of that; `overwrite` takes those too.
    """
    strange = sorted(goal.sizes().keys() - manifest.files.keys()) if goal.exists() else []
    if overwrite:
        strange = [name for name in strange if not FILE_OF_A_CACHE.fullmatch(name)]
    if strange or (isinstance(goal, LocalPlace) and goal.path.is_file()):
        what = strange[0] if strange else "a file"
        raise OutputExistsError(
            f"{goal.text}: is there and is no cache (it has {what}), so it will not be replaced; "
            "choose another target."
        )


def _sizes_fit(goal: Place, manifest: Manifest) -> bool:
    return all(goal.size(name) == size for name, size in manifest.sizes.items())


def _to_folder(origin: Place, path: Path, manifest: Manifest, tick: Tick) -> Copied:
    incoming = path.parent / f".{path.name}.incoming"
    with locked(path):
        done = _copy_files(origin, _Folder(incoming), manifest, tick)
        _remove_others(incoming, manifest)
        (incoming / MANIFEST).write_bytes(manifest.to_bytes())
        publish(incoming, path)
    return done


def _to_remote(origin: Place, goal: RemotePlace, manifest: Manifest, tick: Tick) -> Copied:
    """Manifest last; an old one goes first, so that a half-replaced cache never looks whole."""
    bucket = _Bucket(goal)
    bucket.remove(MANIFEST)
    done = _copy_files(origin, bucket, manifest, tick)
    for name in goal.sizes().keys() - manifest.files.keys():
        bucket.remove(name)
    with bucket.writing(MANIFEST) as file:
        file.write(manifest.to_bytes())
    if read_manifest(goal).content_digest != manifest.content_digest:
        raise CacheCorruptError(f"{goal.text}: reads back as another cache; copy it again.")
    return done


def _copy_files(origin: Place, goal: _Folder | _Bucket, manifest: Manifest, tick: Tick) -> Copied:
    copied = kept = done = copied_bytes = 0
    total = manifest.total_bytes
    for name, entry in sorted(manifest.files.items()):
        if goal.place.size(name) == entry["size"] and goal.place.digest(name) == entry["sha256"]:
            kept += 1
        else:
            _copy_file(origin, goal, name, entry)
            copied += 1
            copied_bytes += entry["size"]
        done += entry["size"]
        tick("bytes", done, total)
    return Copied(
        manifest=manifest,
        existed=False,
        copied_files=copied,
        kept_files=kept,
        copied_bytes=copied_bytes,
    )


def _copy_file(origin: Place, goal: _Folder | _Bucket, name: str, entry: dict[str, Any]) -> None:
    digest, size = hashlib.sha256(), int(entry["size"])
    if origin.size(name) != size:
        raise _damaged_source(origin, name)
    with goal.writing(name) as file:
        for start in range(0, size, PIECE_BYTES):
            piece = origin.read(name, start, min(start + PIECE_BYTES, size))
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != entry["sha256"]:
        goal.remove(name)
        raise _damaged_source(origin, name)
    if goal.place.size(name) != size or goal.place.digest(name) != entry["sha256"]:
        raise CacheCorruptError(
            f"{goal.place.text}/{name}: reads back other bytes than were written; copy it again."
        )


def _damaged_source(origin: Place, name: str) -> CacheCorruptError:
    return CacheCorruptError(
        f"{origin.text}/{name}: missing or damaged, so the copy was not finished; run "
        f"`pkd-cache verify {origin.text}`."
    )


def _remove_others(folder: Path, manifest: Manifest) -> None:
    for name in LocalPlace(folder).sizes().keys() - manifest.files.keys():
        (folder / name).unlink()


class _Folder:
    """The unfinished copy beside a local target."""

    def __init__(self, path: Path) -> None:
        self.place = LocalPlace(path)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        path = self.place.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            yield file

    def remove(self, name: str) -> None:
        (self.place.path / name).unlink(missing_ok=True)


class _Bucket:
    """A folder behind a URL; an object appears when it is closed, whole."""

    def __init__(self, place: RemotePlace) -> None:
        self.place = place

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with (
                naming_remote_errors(self.place.text),
                self.place.fs.open(f"{self.place.root}/{name}", "wb") as file,
            ):
                yield file
        except FileNotFoundError as error:  # a file needs no folder there, but a bucket
            raise CacheError(
                f"{self.place.text}: cannot be written ({error}); create the bucket first."
            ) from None

    def remove(self, name: str) -> None:
        def gone() -> None:
            if self.place.fs.exists(f"{self.place.root}/{name}"):
                self.place.fs.rm_file(f"{self.place.root}/{name}")

        _quietly(gone, self.place.text)


def _quietly(action: Callable[[], None], url: str) -> None:
    with naming_remote_errors(url):
        action()
