"""Reading foreign arrays safely: Zarr decodes, and is handed nothing but bytes that were checked.

Metadata that says what the manifest says, files that the manifest lists, compressed pieces that
decode to the size that a piece has. So no codec but ours runs, and nothing can ask for more memory
than its shape needs.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from pipeline.store.format import (
    CHECKSUM_BYTES,
    GROUP_METADATA,
    INDEX_ENTRY_BYTES,
    LARGEST_METADATA,
    METADATA,
    ArraySpec,
)
from pipeline.store.place import Place, damaged

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LONGEST_FRAME_HEADER = 18  # bytes
IMPLIED = {"attributes", "storage_transformers"}  # metadata that may be left out when empty


def require_group_metadata(place: Place, name: str) -> None:
    """Check the `zarr.json` of a group."""
    require_metadata(place, name, _small(place, name), GROUP_METADATA)


def require_metadata(place: Place, name: str, raw: bytes, expected: dict[str, Any]) -> None:
    """Compare metadata with what it must say; raises CacheCorruptError naming the first difference.

    Missing members that mean the same (no attributes, no storage transformers) are fine.
    """
    try:
        found = json.loads(raw)
        if not isinstance(found, dict):
            raise damaged(place, name, "expected a JSON object")
        implied = {key: expected[key] for key in IMPLIED & expected.keys()}
        problem = _difference(implied | found, expected)
    except (ValueError, RecursionError) as error:
        raise damaged(place, name, f"not JSON ({error})") from None
    if problem:
        raise damaged(place, name, problem)


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    if odd := sorted(found.keys() ^ expected.keys()):
        return f"members missing or unknown: {ascii(odd[0])[:60]}"
    for key, wanted in expected.items():
        if _exact(found[key]) != _exact(wanted):
            return f"{key} is {_exact(found[key])[:60]}, expected {_exact(wanted)[:60]}"
    return None


def _exact(value: object) -> str:
    """JSON text: 1, 1.0 and true are three things."""
    return json.dumps(value, sort_keys=True)


def _small(place: Place, name: str) -> bytes:
    size = place.size(name)
    if size is None:
        raise damaged(place, name, "missing")
    if size > LARGEST_METADATA:
        raise damaged(place, name, f"{size:,} bytes are too many for metadata")
    return place.read(name)


class GuardedStore(Store):
    """A read-only Zarr store of one array: hands out checked bytes, and raises on any other.

    Promises: only files that the manifest lists are read, within the size that it states; every
    compressed piece declares the decoded size of a chunk. Does not: check values (the reader
    compares their digests).
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(
        self, place: Place, folder: str, spec: ArraySpec, sizes: Mapping[str, int]
    ) -> None:
        super().__init__(read_only=True)
        self._place, self._folder, self._spec, self._sizes = place, folder, spec, sizes
        self.metadata = _small(place, f"{folder}/{METADATA}")
        self._indexes: dict[str, bytes] = {}

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Store.__hash__

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of a file, or None for one that the array does not have."""
        if key == METADATA:
            return prototype.buffer.from_bytes(self.metadata)
        if f"{self._folder}/{key}" not in self._sizes:
            return None
        content = await asyncio.to_thread(self._checked, f"{self._folder}/{key}", byte_range)
        return prototype.buffer.from_bytes(content)

    def _checked(self, name: str, wanted: ByteRequest | None) -> bytes:
        size = self._sizes[name]
        match wanted:
            case None:
                content = self._read(name, 0, size)
                self._check_whole(name, content)
            case SuffixByteRequest(length):
                if name not in self._indexes:
                    index = self._read(name, max(0, size - length), size)
                    self._require_index(name, index)
                    self._indexes[name] = index
                content = self._indexes[name]
            case RangeByteRequest(start, end):
                if not 0 <= start < end <= size:
                    raise damaged(self._place, name, "its index points outside of the file")
                content = self._read(name, start, end)
                self._check_frame(name, content)
            case OffsetByteRequest():
                raise NotImplementedError  # zarr's sharding never asks for one
        return content

    def _read(self, name: str, start: int, stop: int) -> bytes:
        try:
            content = self._place.read(name, start, stop)
        except FileNotFoundError:
            raise damaged(self._place, name, "missing") from None
        if len(content) != stop - start:
            raise damaged(self._place, name, "shorter than it was written")
        return content

    def _check_whole(self, name: str, content: bytes) -> None:
        """Every compressed piece of a whole file."""
        spec = self._spec
        if not spec.shards:
            self._check_frame(name, content)
            return
        index = content[-spec.index_bytes :]
        self._require_index(name, index)
        for start, length in index_entries(index):
            self._check_frame(name, content[start : start + length])

    def _require_index(self, name: str, index: bytes) -> None:
        """Refuse an index whose chunks do not fill the shard before it, without gap or overlap."""
        entries, end = sorted(index_entries(index)), 0
        for start, length in entries:
            if start != end or not length:
                raise damaged(self._place, name, "its index points elsewhere than to its chunks")
            end += length
        if len(entries) != self._spec.chunks_per_file or end + len(index) != self._sizes[name]:
            raise damaged(self._place, name, "its index is not that of its chunks")

    def _check_frame(self, name: str, content: bytes) -> None:
        """Refuse a compressed piece that does not say that it decodes to the size of a chunk.

        The header of a Zstandard frame (RFC 8878, section 3.1.1.1) states the size; a decoder takes
        that much memory before it reads on.
        """
        if zstd_content_size(content) != self._spec.chunk_bytes:
            raise damaged(self._place, name, "a piece of it does not decode to a chunk")

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """As `get`, for several."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether the array has a file of this name."""
        return key == METADATA or f"{self._folder}/{key}" in self._sizes

    async def set(self, key: str, value: Buffer) -> None:
        """Refused: read-only."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refused: read-only."""
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        """Refused: what there is stands in the manifest."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refused: what there is stands in the manifest."""
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refused: what there is stands in the manifest."""
        raise NotImplementedError


def zstd_content_size(content: bytes) -> int | None:
    """Decoded bytes that a Zstandard frame states; None when it is none or states none."""
    if content[:4] != ZSTD_MAGIC:
        return None
    content = content[:LONGEST_FRAME_HEADER].ljust(LONGEST_FRAME_HEADER, b"\0")
    descriptor = content[4]
    flag, single_segment = descriptor >> 6, bool(descriptor & 0x20)
    place = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    match flag:
        case 0:
            return content[place] if single_segment else None
        case 1:
            return int(struct.unpack_from("<H", content, place)[0]) + 256
        case 2:
            return int(struct.unpack_from("<I", content, place)[0])
    return int(struct.unpack_from("<Q", content, place)[0])


def index_entries(index: bytes) -> list[tuple[int, int]]:
    """(offset, length) of every chunk of a shard; zarr itself checks the index's checksum."""
    entries = index[: len(index) - CHECKSUM_BYTES]
    if len(entries) % INDEX_ENTRY_BYTES:
        return []
    return [(int(a), int(b)) for a, b in struct.iter_unpack("<QQ", entries)]
