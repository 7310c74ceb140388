"""Where a cache lies: a local folder, or a folder behind any fsspec URL (`s3://team/rte.zarr`).

Every byte of a cache that is read goes through here, and nothing outside the folder is ever
reached: a cache comes from someone else.
"""

from __future__ import annotations

import errno
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
from pipeline.errors import CacheCorruptError, CacheError, PipelineError

# no such file, a file in the place of a folder, a link to itself, a name beyond what a system has
NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
PIECE_BYTES = 8 << 20  # of a file that is read without being kept
LOCAL = ("file://", "local://")
HUB = "hf://"
HUB_BUCKETS = "hf://buckets/"  # plain storage, without commits and revisions
# fsspec's object stores may be asked by several threads, but not for forgetting a listing; what is
# no object store (ftp, smb) may have one connection for all
ONE_AT_A_TIME = threading.Lock()


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


class RemotePlace:
    """A folder behind an fsspec URL; counts its requests and the bytes of files that came.

    Promises: asks the storage each time, whatever fsspec remembers of a listing that another
    program has made stale since; several threads may use it. Does not: count what fsspec asks on
    its own to find out that something is not there.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.text = url
        self._received: list[int] = []  # bytes, by request; threads may append at once
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            extra = " (`pip install 'pkd[s3]'`)" if url.startswith("s3") else ""
            raise CacheError(f"{url}: cannot be opened: {error}{extra}.") from None

    @property
    def requests(self) -> int:
        """Requests so far."""
        return len(self._received)

    @property
    def received_bytes(self) -> int:
        """Bytes of files that came so far."""
        return sum(self._received)

    def exists(self) -> bool:
        """Whether there is anything."""
        return bool(self.ask(self.fs.exists, self.root))

    def size(self, name: str) -> int | None:
        """Bytes of an object; raises CacheError when there is no such bucket."""
        require_inside(name, self.text)
        try:
            found = self.ask(self.fs.info, f"{self.root}/{name}")
        except FileNotFoundError as error:
            if "bucket does not exist" in str(error):
                raise no_bucket(self.text, error) from None
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of an object: a range in one request, a whole one in pieces until it ends."""
        if stop is not None:
            return self._range(name, start, stop)
        return b"".join(self._pieces(name, start))

    def digest(self, name: str) -> str:
        """sha256 of an object."""
        digest = hashlib.sha256()
        for piece in self._pieces(name):
            digest.update(piece)
        return digest.hexdigest()

    def sizes(self) -> dict[str, int | None]:
        """Every object below, in one listing; a name that ends in "/" stands for a folder."""
        try:
            found = self.ask(self.fs.find, self.root, detail=True)
        except FileNotFoundError:
            return {}
        prefix = f"{self.root}/"
        return {
            path.removeprefix(prefix): entry.get("size")
            for path, entry in found.items()
            if path.startswith(prefix) and not path.endswith("/")
        }

    def ask(self, request: Callable[..., Any], path: str, *values: Any, **more: Any) -> Any:
        """One request of the file system about a path of its own.

        Raises:
            FileNotFoundError: nothing there.
            CacheError: anything else that goes wrong, in words.
        """
        return self.count(self._ask, request, path, *values, **more)

    def count(self, request: Callable[..., Any], *values: Any, **more: Any) -> Any:
        """Make a request that is counted, and whose errors are named."""
        found = None
        try:
            with naming_remote_errors(self.text):
                found = request(*values, **more)
        finally:
            self._received.append(len(found) if isinstance(found, bytes) else 0)
        return found

    def _ask(self, request: Callable[..., Any], path: str, *values: Any, **more: Any) -> Any:
        with ONE_AT_A_TIME:
            self.fs.invalidate_cache(path)
        if self.fs.async_impl:
            return request(path, *values, **more)
        with ONE_AT_A_TIME:
            return request(path, *values, **more)

    def _pieces(self, name: str, start: int = 0) -> Iterator[bytes]:
        """An object to its end, which is where less comes than was asked for."""
        while True:
            piece = self._range(name, start, start + PIECE_BYTES)
            yield piece
            if len(piece) < PIECE_BYTES:
                return
            start += PIECE_BYTES

    def _range(self, name: str, start: int, stop: int) -> bytes:
        require_inside(name, self.text)
        if stop <= start:
            return b""  # s3fs takes an empty range for the whole object
        try:
            return self._fetch(name, start, stop)
        except CacheError as error:
            if "range" not in str(error).lower() or start < (self.size(name) or 0):
                raise
            return b""  # S3 and the Hub refuse a range that begins where the object ends

    def _fetch(self, name: str, start: int, stop: int) -> bytes:
        """One range, in one request; raises CacheError when it begins beyond the end."""
        return bytes(self.ask(self.fs.cat_file, f"{self.root}/{name}", start=start, end=stop))


@contextmanager
def naming_remote_errors(url: str) -> Iterator[None]:
    """Turn what the libraries of a remote raise into one message; a missing file stays itself."""
    try:
        yield
    except (FileNotFoundError, PipelineError):
        raise
    except Exception as error:
        if url.startswith(HUB):
            from pipeline.store.hub import hub_message

            raise CacheError(hub_message(url, error)) from error
        text = str(error).strip() or type(error).__name__
        kind = type(error).__name__
        if isinstance(error, PermissionError) or "Credential" in kind or "Profile" in kind:
            problem = f"access is refused ({text})"
            advice = (
                "Check your credentials (S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY) and what they may do there"
            )
        else:
            problem = f"the storage did not answer as expected ({text})"
            advice = "Check the address (S3: AWS_ENDPOINT_URL), your credentials and the network"
        raise CacheError(f"{url}: {problem}. {advice}, then run the same command again.") from error


def no_bucket(url: str, error: FileNotFoundError) -> CacheError:
    """The error for a place that can hold nothing."""
    text = str(error).strip(" .") or "no such file"
    return CacheError(f"{url}: {text}. Check the address; pkd-cache makes folders, but no buckets.")


def traffic(place: Place, whole_bytes: int | None = None) -> str | None:
    """What was read of a remote cache, in words; None of a local one, and of one never asked.

    Args:
        place: of a cache that was used.
        whole_bytes: size of the cache, where it is known.
    """
    if not isinstance(place, RemotePlace) or not place.requests:
        return None
    whole = "" if whole_bytes is None else f" of {whole_bytes / 1e6:.2f} MB"
    received = f"{place.received_bytes / 1e6:.2f} MB"
    return f"read {place.text}: {place.requests:,} requests, {received}{whole}"
