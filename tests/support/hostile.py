"""Caches as someone who means harm would hand them over.

A forged cache is *sealed* again: sizes, sha256 and content_digest are those of what it holds, so
that only the checks of meaning stand between it and a reader (`tests.support.victim`). One that is
made by `write_values` has the right row digests too, over values that mean nothing.

Shapes: rows, layers, hidden; outputs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store.format import (
    CLS,
    CLS_SCALE,
    EXAMPLES,
    LOGITS,
    MANIFEST,
    METADATA,
    shard_count,
    split_files,
)
from pipeline.store.stored import Stored
from pipeline.store.writer import CacheWriter
from tests.support.synthetic import described, examples, plan, values

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_BLOCK = 1 << 17  # the most that one block decodes to
ROWS, CLS_LAYERS, HIDDEN, SHARD = 12, (2, 3, 7), 5, 8  # of the cache that is forged
EXAMPLES_FILE, FIRST_CLS = f"train/{EXAMPLES}", "train/cls/c/0/0/0"
FIRST_LOGITS = "train/logits/c/0/0"
ZEROS = "0" * 64  # in the place of a digest
MOST_SHARDS = 1 << 12  # that a forged manifest lists

Array = np.ndarray[Any, Any]


# --- writing and sealing -------------------------------------------------------


def write_values(
    target: Path,
    table: Any,
    logits: Array,
    cls: Stored,
    fields: dict[str, Any] | None = None,
    **planned: Any,
) -> None:
    """Build a cache of one split, train, through the writer: what it holds is not checked.

    Args:
        target: the cache.
        table: the examples.
        logits: (rows, outputs).
        cls: (rows, layers, hidden).
        fields: of the manifest, in the place of made-up ones.
        planned: as `tests.support.synthetic.plan`.
    """
    settled = plan(hidden_size=cls.values_RLH.shape[2], outputs=logits.shape[1], **planned)
    with CacheWriter(target, settled) as writer:
        writer.add_split("train", table)
        for number in writer.unfinished("train"):
            rows = writer.rows_of("train", number)
            writer.write_shard("train", number, logits[rows], cls[rows])
        writer.finish(described(settled.layout.layers) | (fields or {}))


def write_made_up(
    target: Path, *, table: Any = None, logits: Array | None = None, cls: Stored | None = None
) -> None:
    """A cache of `ROWS` rows whose every digest is right, with other values in one place."""
    honest = values(ROWS)
    cls = cls or Stored(honest[1].astype("f2"), None)
    table = examples(ROWS) if table is None else table
    dtype = str(cls.values_RLH.dtype)
    write_values(target, table, honest[0] if logits is None else logits, cls, dtype=dtype)


def canonical(value: Any) -> bytes:
    """Canonical JSON that lets anything through: NaN, lone surrogates."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sealed(content: dict[str, Any]) -> bytes:
    """A manifest's bytes with the digest that they ought to have."""
    rest = {key: value for key, value in content.items() if key != "content_digest"}
    return canonical(rest | {"content_digest": sha256(canonical(rest))})


def claim(cache: Path, content: dict[str, Any], *names: str) -> None:
    """Let the manifest say what its files are: these, or all of them."""
    for name in names or [*content["files"]]:
        raw = (cache / name).read_bytes()
        content["files"][name] = {"sha256": sha256(raw), "size": len(raw)}


@contextmanager
def forged(cache: Path) -> Iterator[dict[str, Any]]:
    """The manifest to change; it is sealed at the end. Files are claimed with `put` or `claim`."""
    content = json.loads((cache / MANIFEST).read_bytes())
    yield content
    (cache / MANIFEST).write_bytes(sealed(content))


def put(cache: Path, name: str, raw: bytes) -> None:
    """Put other bytes into a file, and let the manifest vouch for them."""
    (cache / name).write_bytes(raw)
    with forged(cache) as content:
        claim(cache, content, name)
        if f"/{CLS}/c/" in name:  # as `pkd-cache build` does, or the manifest refuses already
            path = name.split("/c/")[0]
            folder = f"{path}/c/"
            shards = [e["size"] for n, e in content["files"].items() if n.startswith(folder)]
            layers = content["arrays"][path]["layer_bytes"]
            index = 16 * len(layers) + 4
            chunks = max(sum(shards) - index * len(shards), len(layers))
            layers[:] = [chunks - len(layers) + 1, *[1] * (len(layers) - 1)]


def resized(
    content: dict[str, Any],
    *,
    file_bytes: int,
    rows: int = 12,
    layers: int = 3,
    hidden: int = 5,
    outputs: int = 2,
    shard_rows: int = 8,
    dtype: str = "float16",
    tokens: int | None = None,
) -> None:
    """Make the manifest of a split `train` of any shape; all its parts fit each other.

    Args:
        content: changed in place.
        file_bytes: what the manifest says of each shard of [CLS].
        rows, layers, hidden, outputs, shard_rows, dtype, tokens: the shape.
    """
    numbers, tokens = [*range(1, layers + 1)], tokens or rows
    shards = min(shard_count(rows, shard_rows), MOST_SHARDS)
    chunks = shards * (file_bytes - 16 * layers - 4)
    arrays: dict[str, dict[str, Any]] = {
        CLS: {"shape": [rows, layers, hidden], "dtype": dtype},
        LOGITS: {"shape": [rows, outputs], "dtype": "float32"},
    }
    if dtype == "int8":
        arrays[CLS_SCALE] = {"shape": [rows, layers], "dtype": "float32"}
    widths = {name: layers if name == CLS else 1 for name in arrays}
    arrays[CLS]["layer_bytes"] = [chunks - layers + 1, *[1] * (layers - 1)]
    names = [METADATA, *split_files("train", shards, 1, dtype)]
    sizes = {name: file_bytes if f"/{CLS}/c/" in name else 500 for name in names}
    sizes[f"train/{EXAMPLES}"] = 40 * rows + 5 * tokens
    error = next(iter(content["measured_error"]["layers"].values()))
    content["task"]["label_names"] = [f"l{number}" for number in range(outputs)]
    content["teacher"] |= {"layers": layers, "output_order": [*range(outputs)]}
    content["measured_error"]["layers"] = {str(number): error for number in numbers}
    content |= {
        "layers": numbers,
        "hidden_size": hidden,
        "outputs": outputs,
        "dtype": dtype,
        "shard_rows": shard_rows,
        "max_length": 1 << 24,
        "arrays": {f"train/{name}": value for name, value in arrays.items()},
        "row_digests": {"train": {name: [[ZEROS] * widths[name]] * shards for name in arrays}},
        "files": {name: {"sha256": ZEROS, "size": size} for name, size in sizes.items()},
    }
    content["splits"]["train"] |= {
        "rows": rows,
        "tokens": tokens,
        "labelled_rows": 0,
        "length_histogram": {"1": rows},
    }


# --- bytes of the formats below ------------------------------------------------


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4), bit by bit."""
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def zstd_frame(decoded: int, stated: int | str | None = "decoded") -> bytes:
    """A Zstandard frame (RFC 8878) of `decoded` zero bytes in run-length blocks.

    Args:
        decoded: its real size.
        stated: the size that its header states; None = none.
    """
    size = decoded if isinstance(stated, str) else stated
    if size is None:
        header = ZSTD_MAGIC + bytes([0, 0x88])  # a window of 128 MiB, no size
    else:
        header = ZSTD_MAGIC + bytes([0xE0]) + struct.pack("<Q", size)
    blocks = [min(ZSTD_BLOCK, decoded - start) for start in range(0, decoded, ZSTD_BLOCK)] or [0]
    last = len(blocks) - 1
    run_length = (
        ((count << 3 | 1 << 1 | (number == last)).to_bytes(3, "little") + b"\0")
        for number, count in enumerate(blocks)
    )
    return header + b"".join(run_length)


def shard(chunks: Sequence[bytes], entries: Sequence[tuple[int, int]] | None = None) -> bytes:
    """A shard file of compressed chunks; `entries` are (offset, length) that its index claims."""
    starts = [sum(map(len, chunks[:number])) for number in range(len(chunks))]
    honest = [(start, len(chunk)) for start, chunk in zip(starts, chunks, strict=True)]
    index = b"".join(struct.pack("<QQ", *entry) for entry in entries or honest)
    return b"".join(chunks) + index + struct.pack("<I", crc32c(index))


def chunks_of(raw: bytes, layers: int) -> list[bytes]:
    """The compressed chunks of a shard file."""
    index = raw[-16 * layers - 4 : -4]
    return [raw[start : start + size] for start, size in struct.iter_unpack("<QQ", index)]
