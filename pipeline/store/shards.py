"""The unfinished folder of a build: finished shards with their records, made durable one by one.

A shard is written whole, by one process. Its record is written after its files are on the disk, and
holds all that the manifest will say of it; so a build that was killed, or one that is spread over
processes and machines, is put together from records alone.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.digests import digest_array, digest_file
from pipeline.errors import CacheError, DataError
from pipeline.files import read_json, sync_folder, write_json
from pipeline.store.arrays import chunk_sizes, open_group
from pipeline.store.format import (
    CLS,
    CLS_SCALE,
    LOGITS,
    OUT_OF_FOLD,
    ArraySpec,
    array_specs,
    arrays_of,
    shard_count,
    shard_file,
    shard_slice,
)
from pipeline.store.place import require_inside
from pipeline.store.stored import Stored

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape of what is written, the rows of the splits apart."""

    layers: tuple[int, ...]
    """Teacher layers that are kept, increasing, from 1."""
    hidden_size: int
    outputs: int
    dtype: str
    """Stored type of [CLS]."""
    shard_rows: int
    out_of_fold: tuple[str, ...] = ()
    """Splits that have out-of-fold logits too."""

    def optional(self, split: str) -> tuple[str, ...]:
        """Arrays that a split has beyond those that all have."""
        return (OUT_OF_FOLD,) if split in self.out_of_fold else ()

    def specs(self, split: str, rows: int) -> dict[str, ArraySpec]:
        """The arrays of a split."""
        return array_specs(
            rows=rows,
            optional=self.optional(split),
            layers=len(self.layers),
            hidden=self.hidden_size,
            outputs=self.outputs,
            dtype=self.dtype,
            shard_rows=self.shard_rows,
        )

    def shards(self, rows: int) -> range:
        """Shards of a split of `rows` rows."""
        return range(shard_count(rows, self.shard_rows))

    def rows_of(self, shard: int, rows: int) -> slice:
        """Rows that a shard holds."""
        return shard_slice(shard, rows, self.shard_rows)


class ShardFiles:
    """Shards of one build in its unfinished folder, and the records of those that are finished."""

    def __init__(self, folder: Path, records: Path, layout: Layout) -> None:
        self.folder, self.records, self.layout = folder, records, layout

    def is_finished(self, split: str, shard: int) -> bool:
        """Whether a shard has a record."""
        return self._record_path(split, shard).exists()

    def record(self, split: str, shard: int) -> dict[str, Any]:
        """What is known of a finished shard."""
        found: dict[str, Any] = read_json(self._record_path(split, shard))
        return found

    def write(
        self,
        split: str,
        shard: int,
        rows: slice,
        logits: Array,
        cls: Stored,
        more: dict[str, Any],
        out_of_fold: Array | None = None,
    ) -> None:
        """Write one whole shard, make it durable, then record it as finished.

        Args:
            split: its name.
            shard: its number.
            rows: that it holds.
            logits: (rows, outputs) float32.
            cls: (rows, layers, hidden).
            more: what else to keep with the record.
            out_of_fold: (rows, outputs) float32, where the layout has them.

        Raises:
            CacheError: logits that are not finite.
        """
        values = {CLS: cls.values_RLH, LOGITS: logits}
        if out_of_fold is not None:
            values[OUT_OF_FOLD] = out_of_fold
        for name in values.keys() - {CLS}:
            if not np.isfinite(values[name]).all():
                where = f"{split} rows {rows.start}..{rows.stop - 1}"
                raise CacheError(f"{where}: {name} are not finite.")
        if cls.scale_RL is not None:
            values[CLS_SCALE] = cls.scale_RL
        names = {array: shard_file(split, array, shard) for array in values}
        for name in names.values():  # zarr would read what a kill or a power cut left of a shard
            (self.folder / name).unlink(missing_ok=True)
        group = open_group(self.folder, mode="r+")
        for array, content in values.items():
            group[f"{split}/{array}"][rows] = content
        digests = {array: [digest_array(content)] for array, content in values.items()}
        layers = range(cls.values_RLH.shape[1])
        digests[CLS] = [digest_array(cls.values_RLH[:, layer]) for layer in layers]
        record = {
            "files": {name: self.settle(name) for name in names.values()},
            "digests": digests,
            "layer_bytes": self._layer_bytes(names[CLS]),
        }
        write_json(self._record_path(split, shard), record | more)

    def adopt(self, split: str, shard: int, source: Path, record: dict[str, Any]) -> None:
        """Take over a shard that another process finished elsewhere; every byte is checked.

        Raises:
            CacheError: its files are not what its record says.
        """
        for name, entry in record["files"].items():
            require_inside(name, str(source))
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (source / name).is_file():
                raise CacheError(f"{source / name}: missing; build that part again.")
            shutil.copyfile(source / name, target)
            if self.settle(name) != entry:
                raise CacheError(
                    f"{source / name}: damaged; build that part again with --overwrite."
                )
        write_json(self._record_path(split, shard), record)

    def keep_sound(self) -> int:
        """Forget finished shards whose files are no longer what was recorded; count the others."""
        kept = 0
        for path in sorted(self.records.glob("*/*.json")):
            if self._is_sound(path):
                kept += 1
            else:
                path.unlink()
        return kept

    def _is_sound(self, path: Path) -> bool:
        try:
            files = read_json(path)["files"]
        except (DataError, KeyError, TypeError):
            return False
        return all(self._is(name, entry["sha256"]) for name, entry in files.items())

    def _is(self, name: str, sha256: str) -> bool:
        path = self.folder / name
        return path.is_file() and digest_file(path) == sha256

    def rows(self, split: str, rows: slice) -> tuple[Array, Stored]:
        """Logits and [CLS] of rows of finished shards, as stored."""
        group = open_group(self.folder, mode="r")
        found = {array: np.asarray(group[f"{split}/{array}"][rows]) for array in self._arrays()}
        return found[LOGITS], Stored(found[CLS], found.get(CLS_SCALE))

    def logits(self, split: str) -> Array:
        """(rows, outputs) of a split as written so far; NaN where unwritten."""
        return np.asarray(open_group(self.folder, mode="r")[f"{split}/{LOGITS}"][:])

    def out_of_fold(self, split: str) -> Array:
        """(rows, outputs) of a split, of a layout that has them."""
        return np.asarray(open_group(self.folder, mode="r")[f"{split}/{OUT_OF_FOLD}"][:])

    def _arrays(self) -> tuple[str, ...]:
        return arrays_of(self.layout.dtype)

    def settle(self, name: str) -> dict[str, Any]:
        """Make a file durable and describe it."""
        path = self.folder / name
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return {"sha256": digest_file(path), "size": path.stat().st_size}

    def _layer_bytes(self, name: str) -> list[int]:
        spec = self.layout.specs(name.split("/")[0], 1)[CLS]
        return chunk_sizes((self.folder / name).read_bytes(), spec)

    def _record_path(self, split: str, shard: int) -> Path:
        return self.records / split / f"{shard:06d}.json"
