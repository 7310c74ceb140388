"""A cache as one Parquet table for anyone's own tools, and the proof that it reads back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.digests import digest_array
from pipeline.errors import CacheError, OutputExistsError
from pipeline.files import canonical_json, partial_path, sync_folder
from pipeline.locks import locked
from pipeline.progress import Tick, silent
from pipeline.store.describe import split_order
from pipeline.store.format import LOGITS
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.tables import SPLIT, Shard, shards_of, table_schema, to_table

IDENTITY = b"pkd"  # key of the file's metadata; its value is JSON


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One Parquet file."""

    rows: dict[str, int]
    """By split, in the order of the file."""
    layers: tuple[int, ...]
    size_bytes: int
    existed: bool
    """Whether it was there already, of the same cache, layers and splits."""


def export_cache(
    cache: TeacherCache,
    out: Path,
    *,
    layers: Sequence[int] | None = None,
    splits: Sequence[str] | None = None,
    overwrite: bool = False,
    tick: Tick = silent,
) -> Exported:
    """Write a cache as one Parquet file, read it back, and publish it under its name.

    Columns: split, example_id, input_ids, token_type_ids, label and row_digest as in the cache,
    logits (a list of float32), and layer_1, ... (lists of hidden size, of the stored float type;
    float32 from int8). One row group per shard, in memory of about one shard and the examples of
    one split. The key `pkd` of the file's metadata is JSON: the cache's identity, and what was
    exported.

    Args:
        cache: the cache; every value that is exported is checked.
        out: the file.
        layers: teacher layers, from 1; None = all that are cached, () = the logits alone.
        splits: names; None = all.
        overwrite: replace an export of something else.
        tick: told of shards.

    Raises:
        CacheMismatchError: a layer or split that the cache does not have.
        CacheCorruptError: damage in the cache.
        CacheError: the file does not read back as it was written; it is removed.
        OutputExistsError: `out` holds something else.
        BusyError: another process is writing it.
    """
    chosen = cache.manifest.layers if layers is None else tuple(sorted(set(layers)))
    names = split_order(set(cache.splits if splits is None else splits))
    cache.require_layers(chosen)
    rows = {name: cache.split(name).rows for name in names}
    identity = describe_export(cache.manifest, chosen, names)
    with locked(out):
        existed = not _must_write(out, identity, overwrite)
        if not existed:
            _write_and_publish(cache, out, chosen, names, identity, tick)
    return Exported(rows=rows, layers=chosen, size_bytes=out.stat().st_size, existed=existed)


def describe_export(manifest: Manifest, layers: Sequence[int], splits: Sequence[str]) -> Any:
    """What the file's metadata says, as plain JSON values."""
    kept = ("format_version", "cache_id", "content_digest", "task", "teacher", "tokenizer")
    content = {name: getattr(manifest, name) for name in (*kept, "max_length", "dtype", "compute")}
    content |= {"data_digest": manifest.data_digest, "layers": [*layers], "splits": [*splits]}
    return json.loads(canonical_json(content))


def read_identity(path: Path) -> Any:
    """What an exported file says that it is; None for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return json.loads((pq.read_schema(path).metadata or {})[IDENTITY])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None


def _must_write(out: Path, identity: Any, overwrite: bool) -> bool:
    if not out.exists():
        return True
    found = read_identity(out) if out.is_file() else None
    if found is None:
        raise OutputExistsError(
            f"{out}: is there and is no export of a cache, so it will not be replaced. "
            "Choose another name."
        )
    if found == identity:
        return False
    if not overwrite:
        fields = [name for name in identity if found.get(name) != identity[name]]
        raise OutputExistsError(
            f"{out}: holds another export ({', '.join(fields)} differ). "
            "Add --overwrite to replace it, or choose another name."
        )
    return True


def _write_and_publish(
    cache: TeacherCache,
    out: Path,
    layers: tuple[int, ...],
    splits: Sequence[str],
    identity: Any,
    tick: Tick,
) -> None:
    """The name `out` is there only once the file has been read back."""
    partial = partial_path(out)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(cache, partial, layers, splits, identity, tick)
        _require_same(cache, partial, out, layers, splits, tick)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(out.parent)


def _write(
    cache: TeacherCache,
    path: Path,
    layers: tuple[int, ...],
    splits: Sequence[str],
    identity: Any,
    tick: Tick,
) -> None:
    import pyarrow.parquet as pq

    schema = table_schema(cache.manifest, layers)
    schema = schema.with_metadata({IDENTITY: canonical_json(identity)})
    total = sum(len(cache.manifest.row_digests[split][LOGITS]) for split in splits)
    # floats hardly repeat: a dictionary of them would cost more than it saves
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": [SPLIT]}
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, **options) as writer:
            for done, shard in enumerate(shards_of(cache, layers, splits), start=1):
                table = to_table(shard, schema)
                writer.write_table(table, row_group_size=table.num_rows)
                tick("shards", done, total)
        file.flush()
        os.fsync(file.fileno())


def _require_same(
    cache: TeacherCache,
    path: Path,
    out: Path,
    layers: tuple[int, ...],
    splits: Sequence[str],
    tick: Tick,
) -> None:
    """Read the file back, row group by row group, and compare it with the cache.

    Raises:
        CacheError: anything differs; names rows and column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = file.num_row_groups
            for group, shard in enumerate(shards_of(cache, layers, splits)):
                column = _first_difference(file.read_row_group(group), shard)
                if column:
                    rows = f"{shard.split} rows {shard.rows.start}..{shard.rows.stop - 1}"
                    raise _unlike(out, f"{rows}, column {column}")
                tick("read back", group + 1, groups)
    except pa.ArrowException as error:
        raise _unlike(out, str(error)) from None


def _first_difference(table: Any, shard: Shard) -> str | None:
    """The first column of a row group that is not what the shard holds."""
    if table[SPLIT].to_pylist() != [shard.split] * len(shard.logits):
        return SPLIT
    for name in shard.examples.column_names:
        if not table[name].combine_chunks().equals(shard.examples[name].combine_chunks()):
            return str(name)
    for name, digest in shard.digests.items():
        column = table[name].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False)
        if digest_array(values.reshape(len(column), -1)) != digest:
            return name
    return None


def _unlike(out: Path, what: str) -> CacheError:
    return CacheError(
        f"{out}: does not read back as it was written ({what}). The file was removed; look at the "
        "disk, then run the same command again."
    )
