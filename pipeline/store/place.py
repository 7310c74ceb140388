"""Where a cache lies: a local folder, or a folder behind any fsspec URL (`s3://team/rte.zarr`).

Every byte of a cache that is read goes through a `Place`, and nothing outside the folder is ever
reached: a cache comes from someone else. The other places are in `remote` and `hub`.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.digests import digest_file
from pipeline.errors import CacheCorruptError, CacheError

# no such file, a file in the place of a folder, a link to itself, a name beyond what a system has
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
LOCAL = ("file://", "local://")
HUB = "hf://"
HUB_BUCKETS = "hf://buckets/"  # plain storage, without commits and revisions


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
        """Bytes start..stop of a plain file, whole by default; FileNotFoundError if none.

        A range that reaches beyond the end gives what there is.
        """

    def digest(self, name: str) -> str:
        """sha256 of a plain file, read in pieces."""

    def sizes(self) -> dict[str, int | None]:
        """Everything below that is not a folder: name -> bytes, None for what is no plain file.

        One listing, where the storage has such a thing.
        """


def place_of(text: Place | Path | str) -> Place:
    """The place that a path or an fsspec URL names; a place itself stays it.

    Raises:
        CacheError: a URL without a folder, or a protocol that no installed library speaks; names
            what to install.
    """
    if not isinstance(text, Path | str):
        return text
    url = str(text)
    if "://" not in url:
        return LocalPlace(Path(text))
    for protocol in LOCAL:
        if url.startswith(protocol):
            return LocalPlace(Path(url.removeprefix(protocol)))
    protocol, _, path = url.partition("://")
    if not path.strip("/"):
        raise CacheError(
            f"{url}: names no folder; expected an address such as {protocol}://team/c."
        )
    if url.startswith(HUB) and not url.startswith(HUB_BUCKETS):
        from pipeline.store.hub import HubPlace

        return HubPlace(url.rstrip("/"))
    from pipeline.store.remote import RemotePlace

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
            except OSError as error:
                if error.errno in NO_FILE:
                    return None
                raise
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
        folders = [""]
        while folders:  # os.walk recurses before Python 3.12, and anyone may have nested folders
            folder = folders.pop()
            try:
                with os.scandir(self.path / folder) as entries:
                    for entry in entries:
                        name = f"{folder}/{entry.name}".lstrip("/")
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(status.st_mode):
                            folders.append(name)
                        else:
                            plain = stat.S_ISREG(status.st_mode)
                            found[name] = status.st_size if plain else None
            except OSError as error:
                if error.errno not in NO_FILE:
                    raise
                if folder:
                    found[folder] = None
        return found

    def _require(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise FileNotFoundError(f"{self.path / name}: no such file")
        return size
