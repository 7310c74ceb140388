"""Where a cache lies: a local folder, or a folder behind any fsspec URL (`s3://team/rte.zarr`).

Every byte of a cache that is read goes through here, and nothing outside the folder is ever
reached: a cache comes from someone else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.digests import digest_file
from pipeline.errors import CacheCorruptError, CacheError

PIECE_BYTES = 8 << 20  # of a remote file that is digested


class Place(Protocol):
    """A folder of plain files, read by name ("train/examples.arrow")."""

    @property
    def text(self) -> str:
        """As a person would type it."""

    def exists(self) -> bool:
        """Whether there is anything."""

    def size(self, name: str) -> int | None:
        """Bytes of a plain file; None when there is none (missing, a folder, a link, a device)."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes start..stop of a plain file, whole by default; FileNotFoundError if none."""

    def digest(self, name: str) -> str:
        """sha256 of a plain file, read in pieces."""

    def sizes(self) -> dict[str, int | None]:
        """Everything below that is not a folder: name -> bytes, or None for what is no plain file.

        One listing, where the storage has such a thing.
        """


def place_of(text: Path | str) -> Place:
    """The place that a path or an fsspec URL names.

    Raises:
        CacheError: a protocol that no installed library speaks; names what to install.
    """
    url = str(text)
    if "://" not in url:
        return LocalPlace(Path(text))
    if url.startswith("file://"):
        return LocalPlace(Path(url.removeprefix("file://")))
    return RemotePlace(url.rstrip("/"))


def require_inside(name: str, where: str) -> None:
    """Refuse a name that could leave the folder; raises CacheCorruptError."""
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise CacheCorruptError(f"{where}: {name!r} is not the name of a file of a cache.")


def damaged(place: Place, name: str, problem: str) -> CacheCorruptError:
    """The error for a file that is not what was written."""
    return CacheCorruptError(
        f"{place.text}/{name}: {problem}; run `pkd-cache verify {place.text}`."
    )


@dataclass(frozen=True)
class LocalPlace:
    """A folder on this machine."""

    path: Path

    @property
    def text(self) -> str:
        """The path."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is anything."""
        return os.path.lexists(self.path)

    def size(self, name: str) -> int | None:
        """Bytes of a plain file that lies inside, no link on the way to it."""
        require_inside(name, self.text)
        path = self.path
        for part in name.split("/"):
            path /= part
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(status.st_mode):
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a plain file."""
        size = self._require(name)
        end = size if stop is None else min(stop, size)
        with (self.path / name).open("rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))

    def digest(self, name: str) -> str:
        """sha256 of a plain file."""
        self._require(name)
        return digest_file(self.path / name)

    def sizes(self) -> dict[str, int | None]:
        """Everything below that is not a folder; a link to a folder is not followed."""
        found: dict[str, int | None] = {}
        for parent, folders, files in os.walk(self.path):
            links = [name for name in folders if Path(parent, name).is_symlink()]
            for name in (*files, *links):
                path = Path(parent, name)
                status = path.lstat()
                plain = stat.S_ISREG(status.st_mode)
                found[path.relative_to(self.path).as_posix()] = status.st_size if plain else None
        return found

    def _require(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self.path / name}: no such file")
        return size


class RemotePlace:
    """A folder behind an fsspec URL; counts its requests and the bytes that came."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.text = url
        self.requests = 0
        self.received_bytes = 0
        self._counting = threading.Lock()
        try:
            # another program may have written since: no listing of an earlier command is believed
            self.fs, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            extra = " (`pip install 'pkd[s3]'`)" if url.startswith("s3") else ""
            raise CacheError(f"{url}: cannot be opened: {error}{extra}.") from None

    def exists(self) -> bool:
        """Whether there is anything."""
        return bool(self._asked(lambda: self.fs.exists(self.root)))

    def size(self, name: str) -> int | None:
        """Bytes of an object."""
        require_inside(name, self.text)
        try:
            found = self._asked(lambda: self.fs.info(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of an object, in one request."""
        require_inside(name, self.text)
        whole = start == 0 and stop is None
        limits = {} if whole else {"start": start, "end": stop}
        content = bytes(self._asked(lambda: self.fs.cat_file(f"{self.root}/{name}", **limits)))
        with self._counting:
            self.received_bytes += len(content)
        return content

    def digest(self, name: str) -> str:
        """sha256 of an object."""
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self.text}/{name}: no such file")
        digest = hashlib.sha256()
        for start in range(0, size, PIECE_BYTES):
            digest.update(self.read(name, start, min(start + PIECE_BYTES, size)))
        return digest.hexdigest()

    def sizes(self) -> dict[str, int | None]:
        """Every object below, in one listing."""
        try:
            found = self._asked(lambda: self.fs.find(self.root, detail=True))
        except FileNotFoundError:
            return {}
        return {
            name.removeprefix(self.root).lstrip("/"): int(info["size"])
            for name, info in found.items()
        }

    def _asked(self, request: Callable[[], Any]) -> Any:
        with self._counting:
            self.requests += 1
        with naming_remote_errors(self.text):
            return request()


@contextmanager
def naming_remote_errors(url: str) -> Iterator[None]:
    """Turn what the libraries of a remote raise into one message; a missing file stays itself."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise CacheError(
            f"{url}: the storage did not answer as expected ({text}). Check the address, your "
            "credentials and the network, then run the same command again."
        ) from error


def traffic(place: Place, whole_bytes: int) -> str | None:
    """What was read of a remote cache, in words; None of a local one.

    Args:
        place: of a cache that was used.
        whole_bytes: size of the cache.
    """
    if not isinstance(place, RemotePlace):
        return None
    return (
        f"read {place.text}: {place.requests:,} requests, {place.received_bytes / 1e6:.2f} MB of "
        f"{whole_bytes / 1e6:.2f} MB"
    )
