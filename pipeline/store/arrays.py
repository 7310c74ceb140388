"""The arrays of a cache through zarr: how they are created, and how they are opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store.format import METADATA, ArraySpec
from pipeline.store.guarded import GuardedStore, index_entries, require_metadata
from pipeline.store.place import LocalPlace, Place, damaged

EVERY_CHUNK: Any = {"write_empty_chunks": True}  # also one that holds nothing but the fill value

Array = np.ndarray[Any, Any]


def open_group(folder: Path, mode: str) -> WrittenGroup:
    """The Zarr root group of a folder that is being written; no consolidated metadata."""
    import zarr

    # the modes are zarr's own literals; "a" creates the group when there is none
    found = zarr.open_group(str(folder), mode=mode, zarr_format=3, use_consolidated=False)  # type: ignore[arg-type]
    return WrittenGroup(found)


class WrittenGroup:
    """A Zarr group whose arrays write every chunk, that of an all-zero int8 layer too.

    Zarr does not store this choice: whoever opens an array chooses again.
    """

    def __init__(self, group: Any) -> None:
        self.group = group

    def __getitem__(self, path: str) -> Any:
        return self.group[path].with_config(EVERY_CHUNK)


def create_arrays(folder: Path, split: str, specs: Iterable[ArraySpec]) -> None:
    """Create the empty arrays of a split; unwritten rows are stored as fill values too."""
    from zarr.codecs import ZstdCodec

    group = open_group(folder, mode="a").group.require_group(split)
    for spec in specs:
        group.create_array(
            spec.name,
            shape=spec.shape,
            shards=spec.shards,
            chunks=spec.chunks,
            dtype=spec.dtype,
            # without the checksum a flipped byte can decode to a wrong number without an error
            compressors=ZstdCodec(level=1, checksum=True),
            fill_value=spec.fill_value,
            dimension_names=spec.axes,
            config=EVERY_CHUNK,
        )


def chunk_sizes(shard: bytes, spec: ArraySpec) -> list[int]:
    """Compressed bytes of each chunk of a shard file, in order (one per layer for [CLS])."""
    return [size for _, size in index_entries(shard[-spec.index_bytes :])]


def open_array(place: Place, split: str, spec: ArraySpec, sizes: Mapping[str, int]) -> Any:
    """An array whose metadata is checked before zarr reads any of it.

    Args:
        place: the cache.
        split: its part of the cache.
        spec: what the manifest says of the array.
        sizes: bytes of every file of the cache.

    Raises:
        CacheCorruptError: metadata that says anything else than `spec`, or files of other sizes.
    """
    import zarr

    folder = f"{split}/{spec.name}"
    require_files(place, folder, sizes)
    store = GuardedStore(place, folder, spec, sizes)
    require_metadata(place, f"{folder}/{METADATA}", store.metadata, spec.metadata())
    return zarr.open_array(store, mode="r", zarr_format=3)


def require_files(place: Place, folder: str, sizes: Mapping[str, int]) -> None:
    """Compare the files of an array with their stated sizes, before room is made for its values.

    Of a local cache only: elsewhere each question is a request, and reading asks it anyway.

    Raises:
        CacheCorruptError: a file that is missing or of another size.
    """
    if not isinstance(place, LocalPlace):
        return
    for name, expected in sizes.items():
        if name.startswith(f"{folder}/c/") and (size := place.size(name)) != expected:
            problem = "missing" if size is None else f"{size:,} bytes, expected {expected:,}"
            raise damaged(place, name, problem)
