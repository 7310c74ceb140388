"""Format version 1: names, shapes, codecs, and the one way to create and to open its arrays.

Shapes: rows of a split, layers cached, hidden size, outputs of the classifier.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import CacheCorruptError

FORMAT = "pkd-teacher-cache"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
EXAMPLES = "examples.arrow"
LOGITS = "logits"
CLS = "cls"
CLS_DTYPES = ("float16", "float32")
ALLOWED_CODECS = frozenset({"bytes", "zstd", "sharding_indexed", "crc32c"})


def shard_count(rows: int, shard_rows: int) -> int:
    """Shards that hold `rows` rows."""
    return -(-rows // shard_rows)


def shard_slice(shard: int, rows: int, shard_rows: int) -> slice:
    """Rows of one shard; the last one may be shorter."""
    return slice(shard * shard_rows, min((shard + 1) * shard_rows, rows))


def shard_file(split: str, array: str, shard: int) -> str:
    """Path of a shard inside the cache (Zarr v3 default chunk keys)."""
    return f"{split}/{array}/c/{shard}/0/0" if array == CLS else f"{split}/{array}/c/{shard}/0"


def array_files(split: str, rows: int, shard_rows: int) -> list[str]:
    """Every file of one split, metadata included."""
    shards = range(shard_count(rows, shard_rows))
    metadata = [f"{split}/zarr.json", f"{split}/{CLS}/zarr.json", f"{split}/{LOGITS}/zarr.json"]
    data = [shard_file(split, array, shard) for array in (CLS, LOGITS) for shard in shards]
    return [f"{split}/{EXAMPLES}", *metadata, *data]


def create_arrays(
    folder: Path,
    split: str,
    *,
    rows: int,
    layers: int,
    hidden: int,
    outputs: int,
    dtype: str,
    shard_rows: int,
) -> None:
    """Create the empty arrays of a split.

    One file per shard; within it one compressed, checksummed chunk per layer, so that a reader of
    some layers reads only their bytes. Unwritten rows read as NaN, and are stored even when NaN.
    """
    group = open_group(folder, mode="a").require_group(split)
    shared = {"fill_value": float("nan"), "config": {"write_empty_chunks": True}}
    group.create_array(
        CLS,
        shape=(rows, layers, hidden),
        shards=(shard_rows, layers, hidden),
        chunks=(shard_rows, 1, hidden),
        dtype=dtype,
        compressors=_zstd(),
        dimension_names=("row", "layer", "hidden"),
        **shared,
    )
    group.create_array(
        LOGITS,
        shape=(rows, outputs),
        chunks=(shard_rows, outputs),
        dtype="float32",
        compressors=_zstd(),
        dimension_names=("row", "output"),
        **shared,
    )


def _zstd() -> Any:
    from zarr.codecs import ZstdCodec

    # without the checksum a flipped byte can decode to a wrong number without an error
    return ZstdCodec(level=1, checksum=True)


def open_group(folder: Path, mode: str) -> Any:
    """The Zarr root group of a cache folder; no consolidated metadata."""
    import zarr

    # the modes are zarr's own literals; "a" creates the group when there is none
    return zarr.open_group(str(folder), mode=mode, zarr_format=3, use_consolidated=False)  # type: ignore[arg-type]


def require_array_metadata(
    path: Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    dtype: str,
) -> None:
    """Check a `zarr.json` against what the manifest says, before anything of it is decoded.

    Raises:
        CacheCorruptError: other shape, dtype or chunks, or a codec that is not on our list.
    """
    try:
        content = json.loads(path.read_bytes())
        found = {
            "shape": tuple(content["shape"]),
            "data_type": content["data_type"],
            "chunk_shape": tuple(content["chunk_grid"]["configuration"]["chunk_shape"]),
            "inner_chunk_shape": _inner_chunks(content["codecs"]),
        }
        codecs = set(_codec_names(content["codecs"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheCorruptError(f"{path}: not the metadata of an array ({error!r}).") from None
    wanted = {
        "shape": shape,
        "data_type": dtype,
        "chunk_shape": shards or chunks,
        "inner_chunk_shape": chunks if shards else None,
    }
    for name, value in wanted.items():
        if found[name] != value:
            raise CacheCorruptError(f"{path}: {name} is {found[name]}, expected {value}.")
    if not codecs <= ALLOWED_CODECS:
        strange = ", ".join(sorted(codecs - ALLOWED_CODECS))
        raise CacheCorruptError(f"{path}: codec {strange} is not one that a pkd cache uses.")


def _codec_names(codecs: list[dict[str, Any]]) -> list[str]:
    names: list[str] = []
    for codec in codecs:
        names.append(str(codec["name"]))
        inner = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            names.extend(_codec_names(inner.get(key) or []))
    return names


def _inner_chunks(codecs: list[dict[str, Any]]) -> tuple[int, ...] | None:
    if codecs[0]["name"] != "sharding_indexed":
        return None
    return tuple(codecs[0]["configuration"]["chunk_shape"])
