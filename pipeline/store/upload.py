"""Writing files to any fsspec file system, large ones in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipeline.store.remote import PIECE_BYTES, RemotePlace, naming_remote_errors, no_bucket

UPLOAD_BYTES = 16 << 20  # of one part of an upload; S3 takes ten thousand of a file
MOST_PARTS = 5000


@dataclass(frozen=True)
class RemoteTarget:
    """Files below the root of a remote place."""

    place: RemotePlace

    def write(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        """Write a file of `size` bytes; one that fails half way is not there."""
        fs, path = self.place.fs, f"{self.place.root}/{name}"
        if not fs.async_impl:  # an object store has no folders; s3fs would make a bucket
            self.place.ask(fs.makedirs, path.rpartition("/")[0], exist_ok=True)
        if size > PIECE_BYTES:
            self._upload(path, size, pieces)
            return
        content = b"".join(pieces)
        with _naming(self.place.text):
            self.place.ask(fs.pipe_file, path, content)

    def remove(self, name: str) -> None:
        """Remove a file."""
        with _naming(self.place.text):
            self.place.ask(self.place.fs.rm_file, f"{self.place.root}/{name}")

    def _upload(self, path: str, size: int, pieces: Iterator[bytes]) -> None:
        part = max(UPLOAD_BYTES, size // MOST_PARTS)
        with _naming(self.place.text):
            file = self.place.ask(self.place.fs.open, path, mode="wb", block_size=part)
        try:
            for piece in pieces:
                with _naming(self.place.text):
                    file.write(piece)
            with _naming(self.place.text):
                file.close()
        except BaseException:
            _abandon(file)
            raise


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """As for reading; what is missing when something is written is the bucket."""
    try:
        with naming_remote_errors(url):
            yield
    except FileNotFoundError as error:
        raise no_bucket(url, error) from None


def _abandon(file: Any) -> None:
    """Let go of an upload; closing it would store a file that is not whole."""
    from fsspec.spec import AbstractBufferedFile

    with suppress(Exception):
        if isinstance(file, AbstractBufferedFile):
            file.discard()
            file.closed = True
        else:
            file.close()
