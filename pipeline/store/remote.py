"""A cache behind an fsspec URL: its requests, what they raise, and what they cost."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import CacheError, PipelineError
from pipeline.store.place import HUB, Place, require_inside

PIECE_BYTES = 8 << 20  # of a file that is read without being kept
# fsspec's object stores may be asked by several threads, but not for forgetting a listing; what is
# no object store (ftp, smb) may have one connection for all
ONE_AT_A_TIME = threading.Lock()


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
