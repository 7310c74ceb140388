"""The Arrow file of a split: tokens, labels and ids, in the row order of the arrays."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

from pipeline.digests import row_digest
from pipeline.errors import CacheCorruptError
from pipeline.files import write_atomic
from pipeline.store.manifest import Split

ARROW_MAGIC = b"ARROW1\0\0"
EXTENSION = b"ARROW:extension"  # begins the metadata of types whose own code would read them
ROWS_AT_ONCE = 4096


def schema(regression: bool) -> Any:
    """Columns and types of `examples.arrow`."""
    import pyarrow as pa

    return pa.schema(
        [
            ("example_id", pa.int64()),
            ("input_ids", pa.list_(pa.int32())),
            ("token_type_ids", pa.list_(pa.int8())),
            ("label", pa.float64() if regression else pa.int64()),
            ("row_digest", pa.binary(16)),
        ]
    )


def write_examples(path: Path, table: Any) -> None:
    """Write a table as one Arrow IPC file, atomically."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    write_atomic(path, sink.getvalue().to_pybytes())


def parse_examples(content: bytes, where: str, regression: bool, rows: int) -> Any:
    """Read and check the table of a split from the bytes of its file; raises CacheCorruptError."""
    import pyarrow as pa

    try:
        require_plain_arrow(content, where)
        # the messages that were just checked, one after the other; the footer could name others
        reader = pa.ipc.open_stream(_messages(content))
        _require_schema(reader.schema, regression, where)
        table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, struct.error, ValueError) as error:
        what = one_line(error)
        raise CacheCorruptError(f"{where}: not a readable Arrow file ({what}).") from None
    if table.num_rows != rows:
        raise CacheCorruptError(f"{where}: {table.num_rows} rows, the manifest says {rows}.")
    for name in ("example_id", "input_ids", "row_digest"):
        if table[name].null_count:
            raise CacheCorruptError(f"{where}: column {name} has rows without a value.")
    for name in ("input_ids", "token_type_ids"):
        if not all(map(_is_packed, table[name].chunks)):
            raise CacheCorruptError(f"{where}: column {name} has values outside of its rows.")
    return table


def one_line(error: Exception) -> str:
    """The message of a library, short and printable: it may quote what it read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("unicode_escape").decode()[:200]


def _require_schema(found: Any, regression: bool, where: str) -> None:
    expected = schema(regression)
    if found.equals(expected, check_metadata=True):
        return
    columns = ", ".join(f"{field.name} {field.type}" for field in found)
    shown = columns.encode("unicode_escape").decode()[:200]
    raise CacheCorruptError(f"{where}: unexpected columns or metadata: {shown}.")


def _is_packed(lists: Any) -> bool:
    """Whether the rows hold all values, from the first to the last, none of them null.

    Some readers look at the values alone, and would else see other tokens than the rows do.
    """
    offsets, values = lists.offsets, lists.values
    if values.null_count or lists.offset:
        return False
    if not len(lists):
        return not len(values)
    return bool(offsets[0].as_py() == 0 and offsets[-1].as_py() == len(values))


def require_plain_arrow(content: bytes, where: str) -> None:
    """Refuse what ours never hold, before it is decoded: compression can ask for any memory.

    Raises:
        CacheCorruptError: a compressed batch, a dictionary, an extension type, or no Arrow file.
        ArrowException, struct.error: malformed messages.
    """
    import pyarrow as pa

    if content[: len(ARROW_MAGIC)] != ARROW_MAGIC:
        raise CacheCorruptError(f"{where}: not an Arrow file.")
    kinds = []
    for message in pa.ipc.MessageReader.open_stream(_messages(content)):
        kinds.append(message.type)
        if message.type == "schema" and EXTENSION in message.metadata.to_pybytes():
            raise CacheCorruptError(f"{where}: has an extension type; those of a cache have none.")
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise CacheCorruptError(f"{where}: compressed; the Arrow files of a cache are not.")
    if kinds[:1] != ["schema"] or set(kinds[1:]) != {"record batch"}:
        raise CacheCorruptError(f"{where}: expected batches of rows, found {kinds[:3]}.")


def _messages(content: bytes) -> Any:
    """The part of an Arrow file that is a stream of messages."""
    import pyarrow as pa

    return pa.BufferReader(pa.py_buffer(content).slice(len(ARROW_MAGIC)))


def _is_compressed(metadata: bytes) -> bool:
    """Whether field 3, `compression`, of a RecordBatch is set (Arrow's Message.fbs)."""
    header = _flatbuffer_field(metadata, struct.unpack_from("<I", metadata)[0], 2)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    return _flatbuffer_field(metadata, batch, 3) != 0


def _flatbuffer_field(content: bytes, table: int, number: int) -> int:
    """Position of a table's field; 0 when it is not set."""
    vtable = table - struct.unpack_from("<i", content, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", content, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", content, vtable + entry)[0]
    return table + offset if offset else 0


def require_fits(table: Any, where: str, *, vocab_size: int, classes: int, max_length: int) -> None:
    """Check tokens and labels against what the manifest says of them; raises CacheCorruptError.

    Args:
        table: of `parse_examples`.
        where: names the file in errors.
        vocab_size: token ids are below it.
        classes: labels are below it; 0 for regression.
        max_length: the longest row, in tokens.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.list_value_length(table["input_ids"])
    types = table["token_type_ids"]
    limits = {
        "token id": (pc.list_flatten(table["input_ids"]), 0, vocab_size - 1),
        "token type": (pc.list_flatten(types), 0, 127),
        "row length": (lengths, 1, max_length),
    }
    if classes:
        limits["label"] = (table["label"], 0, classes - 1)
    elif not pc.all(pc.is_finite(table["label"]), min_count=0).as_py():
        raise CacheCorruptError(f"{where}: label is not finite; one that is missing is null.")
    for what, (values, low, high) in limits.items():
        found = pc.min_max(values).as_py()
        if found["min"] is not None and not low <= found["min"] <= found["max"] <= high:
            span = f"{found['min']}..{found['max']}"
            raise CacheCorruptError(f"{where}: {what} {span}, expected {low}..{high}.")
    paired = types.null_count == len(types) or (
        types.null_count == 0 and pa.array(pc.list_value_length(types)).equals(pa.array(lengths))
    )
    if not paired:
        raise CacheCorruptError(f"{where}: token types and tokens are of other lengths.")


def digests_fit(table: Any) -> bool:
    """Whether every row_digest is that of its row's tokens; in memory of some rows."""
    names = ("input_ids", "token_type_ids", "row_digest")
    for piece in table.select(names).to_batches(max_chunksize=ROWS_AT_ONCE):
        rows = zip(*(column.to_pylist() for column in piece.columns), strict=True)
        if any(row_digest(ids, types) != digest for ids, types, digest in rows):
            return False
    return True


def describe(table: Any) -> Split:
    """Counts, lengths and digest of a split's table."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = np.asarray(pc.list_value_length(table["input_ids"]))
    return Split(
        rows=table.num_rows,
        tokens=int(lengths.sum()),
        labelled_rows=table.num_rows - table["label"].null_count,
        length_histogram=_histogram(lengths.tolist()),
        digest=_digest(table),
    )


def _histogram(lengths: list[int]) -> dict[str, int]:
    counts: dict[int, int] = {}
    for length in lengths:
        upper = 1 << max(length - 1, 0).bit_length()
        counts[upper] = counts.get(upper, 0) + 1
    return {str(upper): counts[upper] for upper in sorted(counts)}


def _digest(table: Any) -> str:
    digest = hashlib.sha256()
    for name in ("example_id", "row_digest", "label"):
        for value in table[name].to_pylist():
            digest.update(value if isinstance(value, bytes) else repr(value).encode())
            digest.update(b"\n")
    return digest.hexdigest()
