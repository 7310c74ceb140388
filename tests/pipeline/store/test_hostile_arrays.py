"""pytest tests/pipeline/store/test_hostile_arrays.py - made-up shards and Zarr metadata.

As `test_hostile.py`: sealed, read in 1.5 GiB, refused in one line, within a second and 100 MB.

Shapes: rows, layers, hidden; outputs.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numcodecs
import numpy as np
import pytest

from pipeline.errors import CacheCorruptError, CacheError
from pipeline.store.format import LARGEST_CHUNK_BYTES
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import Stored
from tests.support.hostile import (
    CLS_LAYERS,
    FIRST_CLS,
    FIRST_LOGITS,
    HIDDEN,
    ROWS,
    SHARD,
    chunks_of,
    claim,
    forged,
    put,
    resized,
    sha256,
    shard,
    write_made_up,
    write_values,
    zstd_frame,
)
from tests.support.synthetic import examples, values, write
from tests.support.victim import Victim, require_cheap, require_refused

CHUNK = SHARD * HIDDEN * 2  # bytes of a decoded chunk of [CLS]


# --- shards --------------------------------------------------------------------


def with_shard(cache: Path, chunks: list[bytes], entries: list[tuple[int, int]] | None) -> None:
    """The first shard of [CLS] holds other bytes."""
    put(cache, FIRST_CLS, shard(chunks, entries))


BOMBS: dict[str, bytes] = {
    "a frame of 100 GB": zstd_frame(CHUNK, stated=100 << 30),
    "a frame of 2^64 - 1": zstd_frame(CHUNK, stated=(1 << 64) - 1),
    "a frame of 2^64 - 2": zstd_frame(CHUNK, stated=(1 << 64) - 2),
    "a frame of 1 GB, in truth": zstd_frame(1 << 30)[:60_000],
    "a frame of unknown size": zstd_frame(CHUNK, stated=None),
    "a frame of 256 MB, of unknown size": zstd_frame(1 << 28, stated=None),
    "a frame of 256 MB that says that it is small": zstd_frame(1 << 28, stated=CHUNK),
    "a frame one byte short": zstd_frame(CHUNK - 1),
    "a frame that says one byte more": zstd_frame(CHUNK - 1, stated=CHUNK),
    "a frame that says one byte less": zstd_frame(CHUNK, stated=CHUNK - 1),
    "two frames": zstd_frame(CHUNK) + zstd_frame(CHUNK),
    "two halves": zstd_frame(CHUNK // 2) + zstd_frame(CHUNK // 2),
    "a frame and an empty one": zstd_frame(CHUNK) + zstd_frame(0),
    "a frame and a bomb": zstd_frame(CHUNK) + zstd_frame(1 << 28, stated=None),
    "a skippable frame first": b"\x50\x2a\x4d\x18\x04\0\0\0evil" + zstd_frame(CHUNK),
    "a header alone": zstd_frame(CHUNK)[:9],
    "a magic number alone": zstd_frame(CHUNK)[:4],
    "no zstd": b"\x1f\x8b\x08" + bytes(30),
    "of another dictionary": b"\x28\xb5\x2f\xfd\xe3\x01\0\0\0"
    + struct.pack("<Q", CHUNK)
    + bytes(9),
    "zeros": bytes(40),
    "another chunk of the right size": zstd_frame(CHUNK),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_chunk_that_is_no_chunk(cache: Path, victim: Victim, name: str) -> None:
    """Also the last: a right chunk of zeros is not what its digest says."""
    chunks = chunks_of((cache / FIRST_CLS).read_bytes(), len(CLS_LAYERS))
    chunks[len(name) % 3] = BOMBS[name]
    with_shard(cache, chunks, None)
    report = victim.examine(cache)
    if "open" in report.failures:  # larger than any file of this shape
        require_refused(report, "open", r"cls/c/0/0/0 cannot have")
    else:
        require_refused(report, "train.cls", r"cls/c/0/0/0|cannot be decoded|layer \d, rows 0\.\.7")


@pytest.mark.parametrize("name", BOMBS)
def test_a_chunk_without_a_shard(cache: Path, victim: Victim, name: str) -> None:
    bomb = BOMBS[name].replace(struct.pack("<Q", CHUNK), struct.pack("<Q", SHARD * 2 * 4))
    put(cache, FIRST_LOGITS, bomb)
    report = victim.examine(cache)
    step = "open" if "open" in report.failures else "train.logits"
    require_refused(report, step, r"logits|cannot be decoded")


def index_attacks() -> dict[str, Callable[[list[tuple[int, int]]], list[tuple[int, int]]]]:
    top = 1 << 64
    return {
        "outside of the file": lambda e: [(1 << 20, e[0][1]), *e[1:]],
        "over the end": lambda e: [*e[:2], (e[2][0], e[2][1] + 1)],
        "over its index": lambda e: [*e[:2], (e[2][0], e[2][1] + 52)],
        "overlapping": lambda e: [e[0], (e[0][0], e[1][1]), e[2]],
        "the same chunk": lambda e: [e[0], e[0], e[0]],
        "a gap": lambda e: [(e[0][0] + 1, e[0][1] - 1), *e[1:]],
        "negative": lambda e: [(top - 1, 2), *e[1:]],
        "2^63": lambda e: [(1 << 63, e[0][1]), *e[1:]],
        "2^63 twice": lambda e: [(1 << 63, 1 << 63), *e[1:]],
        "a length of 2^64 - 1": lambda e: [(0, top - 1), *e[1:]],
        "an end beyond 2^64": lambda e: [(top - 2, e[0][1]), *e[1:]],
        "of no length": lambda e: [(0, 0), *e[1:]],
        "one never written": lambda e: [(top - 1, top - 1), *e[1:]],
        "none ever written": lambda e: [(top - 1, top - 1)] * 3,
        "layers in another order": lambda e: [e[1], e[0], e[2]],
    }


@pytest.mark.parametrize("name", index_attacks())
def test_an_index_that_points_elsewhere(cache: Path, victim: Victim, name: str) -> None:
    raw = (cache / FIRST_CLS).read_bytes()
    chunks = chunks_of(raw, len(CLS_LAYERS))
    entries = [(int(start), int(size)) for start, size in struct.iter_unpack("<QQ", raw[-52:-4])]
    with_shard(cache, chunks, index_attacks()[name](entries))
    require_refused(victim.examine(cache), "train.cls", r"cls/c/0/0/0|layer \d, rows 0\.\.7")


@pytest.mark.parametrize("size", [0, 1, 3, 4, 51, 52, 53])
def test_a_shard_that_is_shorter_than_its_index(cache: Path, victim: Victim, size: int) -> None:
    put(cache, FIRST_CLS, (cache / FIRST_CLS).read_bytes()[-size:] if size else b"")
    report = victim.examine(cache)
    step = "open" if "open" in report.failures else "train.cls"
    require_refused(report, step, r"cls/c/0/0/0")


def test_an_index_whose_checksum_is_wrong(cache: Path, victim: Victim) -> None:
    put(cache, FIRST_CLS, (cache / FIRST_CLS).read_bytes()[:-1] + b"\0")
    require_refused(victim.examine(cache), "train.cls", r"cannot be decoded")


def test_a_shard_that_a_bomb_makes_large_is_refused_by_its_size(
    cache: Path, victim: Victim
) -> None:
    """Many rows and layers of nothing: ten gigabytes in files of a hundred kilobytes."""
    with forged(cache) as content:
        resized(content, file_bytes=100_000, rows=50_000, layers=12, hidden=1024, shard_rows=50_000)
    require_refused(victim.examine(cache), "open", r"arrays: train/cls takes 1,228,800,000 bytes")


def test_a_sound_shard_of_another_place(cache: Path, victim: Victim) -> None:
    put(cache, FIRST_CLS, (cache / "train/cls/c/1/0/0").read_bytes())
    require_refused(victim.examine(cache), "train.cls", r"layer 2, rows 0\.\.7: values differ")


def test_the_largest_chunk_is_read_in_little_more_than_its_size(
    cache: Path, victim: Victim
) -> None:
    """One row in a chunk of 256 MiB, from a file of some kilobytes."""
    shutil.rmtree(cache)
    cls = Stored(np.zeros((1, 1, 1), np.int8), np.ones((1, 1), np.float32))
    most: dict[str, Any] = {"layers": (7,), "dtype": "int8", "shard_rows": LARGEST_CHUNK_BYTES // 8}
    write_values(cache, examples(1), np.zeros((1, 2), "f4"), cls, **most)
    report = victim.examine(cache)
    assert report.verified
    assert report.flaws() == []
    assert report.grown_mb < 3 * LARGEST_CHUNK_BYTES >> 20


def test_a_build_of_chunks_that_no_reader_takes_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="a chunk of cls takes .* build with a smaller --shard-r"):
        write(tmp_path / "c.zarr", shard_rows=1 << 30)


@pytest.mark.parametrize("name", [FIRST_CLS, FIRST_LOGITS, "train/cls/zarr.json"])
def test_an_object_of_a_remote_that_is_not_the_file_that_was_written(
    cache: Path, name: str
) -> None:
    """Sizes of a remote are not asked for first; what comes is compared with them."""
    remote = fsspec.filesystem("memory")
    whole = (cache / name).read_bytes()
    for other in (whole[:-1], whole[1:], whole[:1], b"", bytes(len(whole)), None):
        remote.put(str(cache), "/hostile.zarr", recursive=True)
        remote.rm_file(f"/hostile.zarr/{name}")
        if other is not None:
            remote.pipe_file(f"/hostile.zarr/{name}", other)
        opened = TeacherCache.open("memory://hostile.zarr")
        with pytest.raises(CacheCorruptError, match="pkd-cache verify memory://hostile.zarr"):
            opened.logits("train") if "logits" in name else opened.cls("train", CLS_LAYERS)
        remote.rm("/hostile.zarr", recursive=True)


# --- Zarr metadata ---------------------------------------------------------------

ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
BLOSC = {"cname": "lz4", "clevel": 1, "shuffle": "noshuffle", "typesize": 4, "blocksize": 0}
CODECS: dict[str, Any] = {
    "blosc": {"name": "blosc", "configuration": BLOSC},
    "gzip": {"name": "gzip", "configuration": {"level": 1}},
    "pickle": {"name": "numcodecs.pickle", "configuration": {}},
    "numcodecs.zlib": {"name": "numcodecs.zlib", "configuration": {"level": 1}},
    "vlen-utf8": {"name": "vlen-utf8"},
    "vlen-bytes": {"name": "vlen-bytes"},
    "transpose": {"name": "transpose", "configuration": {"order": [1, 0]}},
    "zstd without checksum": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "zstd of another level": {"name": "zstd", "configuration": {"level": 19, "checksum": True}},
    "one that nobody knows": {"name": "https://example.org/evil"},
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("how", ["added", "instead"])
def test_a_codec_that_is_not_on_the_list(cache: Path, victim: Victim, name: str, how: str) -> None:
    path = cache / "train/logits/zarr.json"
    content = json.loads(path.read_bytes())
    content["codecs"] = [content["codecs"][0], *([ZSTD] if how == "added" else []), CODECS[name]]
    put(cache, "train/logits/zarr.json", json.dumps(content).encode())
    require_refused(victim.examine(cache), "train.logits", r"logits/zarr\.json: codecs is ")


def configured(name: str, **configuration: Any) -> dict[str, Any]:
    """A named part of Zarr metadata."""
    return {"name": name, "configuration": configuration}


OTHER_METADATA: dict[str, dict[str, Any]] = {
    "objects": {"data_type": "object"},
    "strings": {"data_type": "string"},
    "a type of another name": {"data_type": {"name": "numpy.datetime64", "configuration": {}}},
    "a fill of numbers": {"fill_value": 0.0},
    "a fill of infinity": {"fill_value": "Infinity"},
    "a fill of 100 MB": {"fill_value": "0x" + "0" * 30_000},
    "a huge shape": {"shape": [1 << 62, 1 << 62]},
    "a negative shape": {"shape": [-1, 2]},
    "no shape": {"shape": []},
    "a chunk of nothing": {"chunk_grid": configured("regular", chunk_shape=[0, 2])},
    "a huge chunk": {"chunk_grid": configured("regular", chunk_shape=[1 << 50, 2])},
    "keys of version 2": {"chunk_key_encoding": configured("v2", separator="/")},
    "keys that leave": {"chunk_key_encoding": configured("default", separator="../")},
    "transformers": {"storage_transformers": [{"name": "evil", "configuration": {}}]},
    "attributes": {"attributes": {"a": 1}},
    "a member more": {"surprise": 1},
    "a member more that is null": {"surprise": None},
    "a member more that may be left out": {"surprise": {"must_understand": False}},
    "version 2": {"zarr_format": 2},
    "version 3.0": {"zarr_format": 3.0},
    "a group": {"node_type": "group"},
    "null": {"shape": None},
    "a truth value": {"zarr_format": True},
    "a name that moves the cursor": {"\x1b[2J\n\ud800": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_METADATA)
def test_metadata_that_says_anything_else(cache: Path, victim: Victim, name: str) -> None:
    path = cache / "train/logits/zarr.json"
    content = json.loads(path.read_bytes()) | OTHER_METADATA[name]
    put(cache, "train/logits/zarr.json", json.dumps(content).encode())
    require_refused(victim.examine(cache), "train.logits", r"logits/zarr\.json: ")


@pytest.mark.parametrize("depth", [100, *range(940, 1000, 7), 1100, 30_000])
def test_metadata_nested_to_any_depth(cache: Path, victim: Victim, depth: int) -> None:
    path = cache / "train/logits/zarr.json"
    content = json.loads(path.read_bytes())
    raw = json.dumps(content | {"attributes": "here"}).replace('"here"', "[" * depth + "]" * depth)
    put(cache, "train/logits/zarr.json", raw.encode())
    require_refused(victim.examine(cache), "train.logits", r"logits/zarr\.json: ")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"a":1}', b"NaN", b"[" * 60_000, b"1" * 9999],
)
@pytest.mark.parametrize("name", ["zarr.json", "train/zarr.json", "train/cls/zarr.json"])
def test_metadata_that_is_none(cache: Path, victim: Victim, name: str, raw: bytes) -> None:
    put(cache, name, raw)
    report = victim.examine(cache)
    require_cheap(report)
    assert not report.verified
    assert any(name in text for text in report.texts)
    assert name == "train/cls/zarr.json" or not report.failures  # groups are not read


def test_groups_are_not_consolidated(cache: Path, victim: Victim) -> None:
    """Metadata of arrays inside of their group's: nobody reads it, `verify` refuses it."""
    content = json.loads((cache / "zarr.json").read_bytes())
    content["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
    put(cache, "zarr.json", json.dumps(content).encode())
    report = victim.examine(cache)
    require_cheap(report)
    assert [name for name, _ in report.findings] == ["zarr.json"]


# --- values that agree with every digest --------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_vectors_that_are_no_numbers(tmp_path: Path, victim: Victim, value: float) -> None:
    cls = values(ROWS)[1].astype("f2")
    cls[9, 1, 2] = value
    write_made_up(tmp_path / "c.zarr", cls=Stored(cls, None))
    report = victim.examine(tmp_path / "c.zarr")
    require_cheap(report)
    assert report.findings == [("train/cls", "layer 3, rows 8..11: values that are not finite")]


@pytest.mark.parametrize(
    ("vector", "scale"), [(-128, 1.0), (1, 0.0), (1, -1.0), (1, float("nan")), (1, float("inf"))]
)
def test_scales_that_are_none(tmp_path: Path, victim: Victim, vector: int, scale: float) -> None:
    stored = np.ones((ROWS, 3, HIDDEN), np.int8), np.ones((ROWS, 3), np.float32)
    stored[0][1, 2, 3], stored[1][1, 2] = vector, scale
    write_made_up(tmp_path / "c.zarr", cls=Stored(*stored))
    report = victim.examine(tmp_path / "c.zarr")
    require_cheap(report)
    assert [name for name, _ in report.findings] == ["train/cls"]


def test_logits_that_are_no_numbers(cache: Path, victim: Victim) -> None:
    """The writer refuses them, so the shard is made by hand, and its digest by a second formula."""

    logits = values(ROWS)[0][:SHARD].copy()
    logits[3, 1] = np.nan
    put(cache, FIRST_LOGITS, numcodecs.Zstd(level=1, checksum=True).encode(logits.tobytes()))
    with forged(cache) as content:
        digest = sha256(b"<f4(8, 2)" + logits.tobytes())
        content["row_digests"]["train"]["logits"][0] = [digest]
        claim(cache, content, FIRST_LOGITS)
    report = victim.examine(cache)
    require_cheap(report)
    assert report.findings == [("train/logits", "has logits that are not finite")]
