"""Where the rows come from: a file, a pipe, or standard input."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import DataError
from pipeline.predict.rows import FORMATS


@dataclass(frozen=True)
class Source:
    """An open input."""

    name: str
    """As named in messages."""
    kind: str
    """One of `FORMATS`."""
    path: Path | None
    """None for standard input."""
    file: BinaryIO
    beginning: int = 0
    """Where in the file the input starts: a shell may have read some of standard input."""

    @property
    def repeatable(self) -> bool:
        """Whether it can be read from its beginning again; a pipe cannot."""
        return self.file.seekable()

    def start(self) -> BinaryIO:
        """The file, at its beginning where it can go back there."""
        if self.repeatable:
            self.file.seek(self.beginning)
        return self.file


@contextmanager
def open_source(text: str, kind: str | None, stdin: BinaryIO) -> Iterator[Source]:
    """Open the input that a person named.

    Args:
        text: a path, or `-` for standard input.
        kind: its format; None = by the ending of its name.
        stdin: standard input.

    Raises:
        DataError: no such file, or a format that cannot be told.
    """
    path = None if text == "-" else Path(text).expanduser()
    kind = kind or kind_of(path)
    name = "standard input" if path is None else str(path)
    _check(path, name, kind)
    assert kind
    if path is None:
        with _seekable(stdin, kind) as file:
            yield Source(name, kind, path, file, file.tell() if file.seekable() else 0)
    else:
        with path.open("rb") as opened, _seekable(opened, kind) as file:
            yield Source(name, kind, path, file)


def kind_of(path: Path | None) -> str | None:
    """The format that the ending of a name stands for; None when it is none of ours."""
    suffix = path.suffix.lower().removeprefix(".") if path else ""
    return suffix if suffix in FORMATS else None


def _check(path: Path | None, name: str, kind: str | None) -> None:
    if path is not None and not path.exists():
        raise DataError(f"{path}: no such file.")
    if path is not None and path.is_dir():
        raise DataError(f"{path}: expected a file, found a folder.")
    if kind is None:
        raise DataError(f"{name}: cannot tell its format; add --format {'|'.join(FORMATS)}.")


@contextmanager
def _seekable(file: BinaryIO, kind: str) -> Iterator[BinaryIO]:
    """The file itself; of Parquet in a pipe, whose table of contents comes last, a copy on disk."""
    if kind != "parquet" or file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy
