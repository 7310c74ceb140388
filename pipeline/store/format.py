"""Format version 1: names, shapes, codecs, and what the metadata of each array must say.

`docs/format.md` says the same in words. Pure Python: `pkd-cache info` loads no numeric library.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CacheError

FORMAT = "pkd-teacher-cache"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
METADATA = "zarr.json"
EXAMPLES = "examples.arrow"
LOGITS = "logits"
CLS = "cls"
CLS_SCALE = "cls_scale"
OUT_OF_FOLD = "out_of_fold"  # optional: logits of teachers that never saw the row
CLS_DTYPES = ("float16", "float32", "int8")
ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
GROUP_METADATA = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
INDEX_ENTRY_BYTES = 16  # offset and length of a chunk inside a shard
CHECKSUM_BYTES = 4  # crc32c at the end of a shard's index
LARGEST_CHUNK_BYTES = 1 << 28  # decoded; a decoder takes that much at once
LARGEST_METADATA = 1 << 16  # bytes of a `zarr.json`; ours take about a thousand


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """Shape, type and chunking of one array."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    """Rows and so on of one compressed piece; the last one of an axis is padded with the fill."""
    shards: tuple[int, ...] | None
    """Rows and so on of one file; None = one chunk is one file."""
    axes: tuple[str, ...]

    @property
    def fill_value(self) -> float | int:
        """What reads where nothing was written. int8 holds no NaN: its scale does."""
        return 0 if self.dtype == "int8" else float("nan")

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of one chunk."""
        size = ITEM_BYTES[self.dtype]
        for length in self.chunks:
            size *= length
        return size

    @property
    def raw_bytes(self) -> int:
        """Decoded size of the array, without padding."""
        size = ITEM_BYTES[self.dtype]
        for length in self.shape:
            size *= length
        return size

    @property
    def chunks_per_file(self) -> int:
        """Compressed pieces in one file."""
        return self.shards[1] // self.chunks[1] if self.shards else 1

    @property
    def index_bytes(self) -> int:
        """Size of the index at the end of a shard; 0 for an array without shards."""
        return INDEX_ENTRY_BYTES * self.chunks_per_file + CHECKSUM_BYTES if self.shards else 0

    @property
    def most_file_bytes(self) -> int:
        """Size that no file of the array exceeds: every chunk incompressible."""
        frame = self.chunk_bytes + (self.chunk_bytes >> 8) + 128  # ZSTD_COMPRESSBOUND, header, sum
        return self.index_bytes + self.chunks_per_file * frame

    def metadata(self) -> dict[str, Any]:
        """The content of the array's `zarr.json`."""
        grid = {
            "name": "regular",
            "configuration": {"chunk_shape": [*(self.shards or self.chunks)]},
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [*self.shape],
            "data_type": self.dtype,
            "chunk_grid": grid,
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0 if self.dtype == "int8" else "NaN",
            "codecs": self._codecs(),
            "attributes": {},
            "dimension_names": [*self.axes],
            "storage_transformers": [],
        }

    def _codecs(self) -> list[dict[str, Any]]:
        inner = [{"name": "bytes"} if self.dtype == "int8" else LITTLE_ENDIAN, ZSTD]
        if self.shards is None:
            return inner
        sharding = {
            "chunk_shape": [*self.chunks],
            "codecs": inner,
            "index_codecs": [LITTLE_ENDIAN, {"name": "crc32c"}],
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": sharding}]


def array_specs(
    *,
    rows: int,
    layers: int,
    hidden: int,
    outputs: int,
    dtype: str,
    shard_rows: int,
    optional: Collection[str] = (),
) -> dict[str, ArraySpec]:
    """The arrays of one split, by name.

    One file per shard of [CLS]; within it one compressed, checksummed chunk per layer, so that a
    reader of some layers reads only their bytes. Of `optional` arrays there is `OUT_OF_FOLD`.

    Raises:
        CacheError: a chunk beyond `LARGEST_CHUNK_BYTES`: no reader would take it.
    """
    specs = [
        ArraySpec(
            name=CLS,
            shape=(rows, layers, hidden),
            dtype=dtype,
            chunks=(shard_rows, 1, hidden),
            shards=(shard_rows, layers, hidden),
            axes=("row", "layer", "hidden"),
        ),
        *(
            ArraySpec(
                name=name,
                shape=(rows, outputs),
                dtype="float32",
                chunks=(shard_rows, outputs),
                shards=None,
                axes=("row", "output"),
            )
            for name in (LOGITS, *optional)
        ),
    ]
    if dtype == "int8":
        scale = ArraySpec(
            name=CLS_SCALE,
            shape=(rows, layers),
            dtype="float32",
            chunks=(shard_rows, layers),
            shards=None,
            axes=("row", "layer"),
        )
        specs.append(scale)
    for spec in specs:
        if spec.chunk_bytes > LARGEST_CHUNK_BYTES:
            raise CacheError(
                f"shard_rows is {shard_rows:,}: a chunk of {spec.name} takes {spec.chunk_bytes:,} "
                f"bytes, at most {LARGEST_CHUNK_BYTES:,}; build with a smaller --shard-rows."
            )
    return {spec.name: spec for spec in specs}


def shard_count(rows: int, shard_rows: int) -> int:
    """Shards that hold `rows` rows."""
    return -(-rows // shard_rows)


def shard_slice(shard: int, rows: int, shard_rows: int) -> slice:
    """Rows of one shard; the last one may be shorter."""
    return slice(shard * shard_rows, min((shard + 1) * shard_rows, rows))


def shard_file(split: str, array: str, shard: int) -> str:
    """Path of a shard inside the cache (Zarr v3 default chunk keys)."""
    return f"{split}/{array}/c/{shard}/0/0" if array == CLS else f"{split}/{array}/c/{shard}/0"


def arrays_of(dtype: str) -> tuple[str, ...]:
    """Names of the arrays that every split has."""
    return (CLS, CLS_SCALE, LOGITS) if dtype == "int8" else (CLS, LOGITS)


def optional_arrays(split: str, arrays: Collection[str]) -> tuple[str, ...]:
    """Those of a split, by the paths of all arrays of a cache."""
    return (OUT_OF_FOLD,) if f"{split}/{OUT_OF_FOLD}" in arrays else ()


def split_files(
    split: str, rows: int, shard_rows: int, dtype: str, optional: Collection[str] = ()
) -> list[str]:
    """Every file of one split, metadata included."""
    arrays, shards = (*arrays_of(dtype), *optional), range(shard_count(rows, shard_rows))
    metadata = [f"{split}/{METADATA}", *(f"{split}/{array}/{METADATA}" for array in arrays)]
    data = [shard_file(split, array, shard) for array in arrays for shard in shards]
    return [f"{split}/{EXAMPLES}", *metadata, *data]
