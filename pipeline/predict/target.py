"""Where predictions go: a file, standard output, or a file for the GLUE site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import DataError
from pipeline.predict.glue import submission_of, submission_path
from pipeline.predict.layout import Column, Layout, Predictions
from pipeline.predict.rows import kept_types
from pipeline.predict.sink import Writer, open_file, text_writer
from pipeline.predict.source import Source, kind_of
from pipeline.predict.student import Described


@dataclass(frozen=True, kw_only=True)
class Target:
    """An output and its layout."""

    path: Path | None
    """None = a stream."""
    kind: str
    """One of `FORMATS`."""
    layout: Layout
    stream: BinaryIO | None = None
    glue: bool = False


def plain_target(
    student: Described, out: Path | None, kind: str | None, stream: BinaryIO, source: Source
) -> Target:
    """Labels and probabilities, or scores, into a file or a stream.

    Args:
        student: what is predicted.
        out: the file; None = `stream`.
        kind: of the output; None = by the ending of `out`, and for a stream as the input (JSON
            lines for Parquet).
        stream: standard output.
        source: the input.

    Raises:
        DataError: a format that cannot be told, or Parquet to a stream.
    """
    layout = Predictions(student.labels, student.columns.kept)
    if out is None:
        if kind == "parquet":
            raise DataError("Parquet cannot go to standard output; name a file with --out.")
        like_input = "jsonl" if source.kind == "parquet" else source.kind
        return Target(path=None, kind=kind or like_input, layout=layout, stream=stream)
    found = kind or kind_of(out)
    if found is None:
        raise DataError(
            f"{out}: cannot tell its format; end its name in .csv, .tsv, .jsonl or .parquet, "
            "or add --out-format."
        )
    return Target(path=out, kind=found, layout=layout)


def glue_target(student: Described, where: Path, source: Source) -> Target:
    """A file for the GLUE site; raises DataError as `submission_of` and `submission_path`."""
    layout = submission_of(student)
    path = submission_path(str(student.task), where, source.name)
    return Target(path=path, kind="tsv", layout=layout, glue=True)


@contextmanager
def opened(target: Target, student: Described, source: Source) -> Iterator[Writer]:
    """A writer; a file gets its name at the end, a stream is flushed after every window."""
    if target.path is not None:
        types = _types(target, student, source)
        with open_file(target.path, target.kind, target.layout.names, types) as write:
            yield write
        return
    stream = target.stream
    assert stream is not None
    writer = text_writer(stream, target.kind, target.layout.names)

    def write_now(columns: Sequence[Column]) -> None:
        writer(columns)
        stream.flush()

    yield write_now
    stream.flush()


def _types(target: Target, student: Described, source: Source) -> list[Any]:
    """`pyarrow.DataType` of each column of a Parquet file; [] for any other."""
    if target.kind != "parquet":
        return []
    import pyarrow as pa

    kept = kept_types(source.start(), source.name, source.kind, student.columns)
    computed = [pa.string()] if student.labels else []
    computed += [pa.float32()] * (len(student.labels) or 1)
    return [pa.int64(), *kept, *computed]
