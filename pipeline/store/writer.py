"""Writing a cache: shard by shard into a partial folder, resumable, published by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.digests import digest_array, digest_file, digest_json
from pipeline.errors import CacheError, DataError
from pipeline.files import partial_path, publish, read_json, sync_folder, write_atomic, write_json
from pipeline.locks import locked
from pipeline.store.examples import describe, write_examples
from pipeline.store.format import (
    CLS,
    EXAMPLES,
    LOGITS,
    MANIFEST,
    array_files,
    create_arrays,
    open_group,
    shard_count,
    shard_file,
    shard_slice,
)
from pipeline.store.manifest import Manifest, Split

PLAN = "plan.json"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build writes. Two builds with equal plans write the same bytes."""

    identity: dict[str, Any]
    """Teacher, tokenizer, data and every option that changes values; its digest is the cache_id."""
    layers: tuple[int, ...]
    hidden_size: int
    outputs: int
    dtype: str
    shard_rows: int
    batch_tokens: int

    @property
    def cache_id(self) -> str:
        """sha256 of the identity."""
        return digest_json(self.identity)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"layers": list(self.layers)}


class CacheWriter:
    """Builds one cache under a lock.

    Promises: what is published is complete; a build that was killed goes on from the last finished
    shard when the plan is the same; another plan's partial build is set aside, never continued; a
    second builder is refused. Does not: compute anything.
    """

    def __init__(self, target: Path, plan: Plan) -> None:
        self.target = target
        self.plan = plan
        self.partial = partial_path(target)
        self.records = target.parent / f".{target.name}.records"
        self.resumed_shards = 0
        """Shards found finished when the writer was opened."""
        self.set_aside: Path | None = None
        """Where another plan's partial build was moved."""
        self._splits: dict[str, Split] = {}
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(locked(self.target))
            self._resume_or_start()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _resume_or_start(self) -> None:
        plan_path = self.records / PLAN
        if self.partial.exists() and _plan_in(plan_path) == self.plan.to_dict():
            self.resumed_shards = self._keep_sound_records()
            return
        if self.partial.exists():
            self.set_aside = _free_name(self.target.parent / f".{self.target.name}.set-aside")
            self.partial.rename(self.set_aside)
        shutil.rmtree(self.records, ignore_errors=True)
        write_json(plan_path, self.plan.to_dict())
        open_group(self.partial, mode="a")

    def _keep_sound_records(self) -> int:
        """Forget finished shards whose files are not, or no longer, what was recorded."""
        kept = 0
        for path in self.records.glob("*/*.json"):
            files = read_json(path)["files"]
            if all(self._is(name, entry["sha256"]) for name, entry in files.items()):
                kept += 1
            else:
                path.unlink()
        return kept

    def _is(self, name: str, sha256: str) -> bool:
        path = self.partial / name
        return path.is_file() and digest_file(path) == sha256

    def add_split(self, split: str, examples: Any) -> None:
        """Write a split's tokens and labels, and create its empty arrays.

        Args:
            split: its name.
            examples: `pyarrow.Table` as `pipeline.encode.encode` makes it.
        """
        self._splits[split] = describe(examples)
        write_examples(self.partial / split / EXAMPLES, examples)
        if not (self.partial / split / LOGITS / "zarr.json").exists():
            plan = self.plan
            create_arrays(
                self.partial,
                split,
                rows=examples.num_rows,
                layers=len(plan.layers),
                hidden=plan.hidden_size,
                outputs=plan.outputs,
                dtype=plan.dtype,
                shard_rows=plan.shard_rows,
            )

    def unfinished(self, split: str) -> list[int]:
        """Shards of a split that still have to be written, in order."""
        count = shard_count(self._splits[split].rows, self.plan.shard_rows)
        return [shard for shard in range(count) if not self._record(split, shard).exists()]

    def rows_of(self, split: str, shard: int) -> slice:
        """Rows of a split that a shard holds."""
        return shard_slice(shard, self._splits[split].rows, self.plan.shard_rows)

    def write_shard(self, split: str, shard: int, logits: Array, cls: Array) -> None:
        """Write one whole shard, make it durable, then record it as finished.

        Args:
            split: its name.
            shard: its number.
            logits: (rows, outputs) float32.
            cls: (rows, layers, hidden) float32.

        Raises:
            CacheError: a value that is not finite, or beyond the stored type; names the layer.
        """
        rows = self.rows_of(split, shard)
        stored = to_stored(cls, self.plan.dtype, self.plan.layers)
        if not np.isfinite(logits).all():
            raise CacheError(f"{split} rows {rows.start}..{rows.stop - 1}: logits are not finite.")
        names = [shard_file(split, array, shard) for array in (CLS, LOGITS)]
        for name in names:  # zarr would read what a kill or a power cut left of a shard
            (self.partial / name).unlink(missing_ok=True)
        group = open_group(self.partial, mode="r+")
        group[f"{split}/{CLS}"][rows] = stored
        group[f"{split}/{LOGITS}"][rows] = logits
        record = {
            "files": {name: self._settle(name) for name in names},
            CLS: [digest_array(stored[:, layer]) for layer in range(stored.shape[1])],
            LOGITS: [digest_array(logits)],
        }
        write_json(self._record(split, shard), record)

    def logits(self, split: str) -> Array:
        """(rows, outputs) of a split as written so far; NaN where unwritten."""
        return np.asarray(open_group(self.partial, mode="r")[f"{split}/{LOGITS}"][:])

    def cls_rows(self, split: str, rows: list[int]) -> Array:
        """(len(rows), layers, hidden) as stored, for the few rows whose error is measured."""
        array = open_group(self.partial, mode="r")[f"{split}/{CLS}"]
        return np.stack([np.asarray(array[row]) for row in rows])

    def finish(self, describe_cache: Callable[[], dict[str, Any]]) -> Manifest:
        """Check completeness, write the manifest last, publish by one rename.

        Args:
            describe_cache: gives the manifest's fields that the writer does not know.

        Raises:
            CacheError: a shard is missing.
        """
        for split in self._splits:
            if missing := self.unfinished(split):
                raise CacheError(f"{self.target}: {split} lacks shards {missing}; run build again.")
        manifest = self._manifest(describe_cache())
        self._remove_strays(manifest)
        write_atomic(self.partial / MANIFEST, manifest.to_bytes())
        publish(self.partial, self.target)
        shutil.rmtree(self.records)
        return manifest

    def _manifest(self, described: dict[str, Any]) -> Manifest:
        plan = self.plan
        records = {split: self._records(split) for split in self._splits}
        row_digests = {
            split: {array: [record[array] for record in of_split] for array in (CLS, LOGITS)}
            for split, of_split in records.items()
        }
        return Manifest(
            layers=plan.layers,
            hidden_size=plan.hidden_size,
            outputs=plan.outputs,
            dtype=plan.dtype,
            shard_rows=plan.shard_rows,
            batch_tokens=plan.batch_tokens,
            splits=self._splits,
            arrays=self._arrays(),
            row_digests=row_digests,
            files=self._files(records),
            cache_id=plan.cache_id,
            **described,
        ).sealed()

    def _arrays(self) -> dict[str, dict[str, Any]]:
        plan = self.plan
        arrays: dict[str, dict[str, Any]] = {}
        for split, info in self._splits.items():
            cls_shape = [info.rows, len(plan.layers), plan.hidden_size]
            arrays[f"{split}/{CLS}"] = {"shape": cls_shape, "dtype": plan.dtype}
            logits_shape = [info.rows, plan.outputs]
            arrays[f"{split}/{LOGITS}"] = {"shape": logits_shape, "dtype": "float32"}
        return arrays

    def _files(self, records: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        known = {
            name: entry
            for of_split in records.values()
            for record in of_split
            for name, entry in record["files"].items()
        }
        names = ["zarr.json"]
        for split, info in self._splits.items():
            names.extend(array_files(split, info.rows, self.plan.shard_rows))
        return {name: known.get(name) or self._settle(name) for name in names}

    def _settle(self, name: str) -> dict[str, Any]:
        """Make a file durable and describe it."""
        path = self.partial / name
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return {"sha256": digest_file(path), "size": path.stat().st_size}

    def _record(self, split: str, shard: int) -> Path:
        return self.records / split / f"{shard:06d}.json"

    def _records(self, split: str) -> list[dict[str, Any]]:
        count = shard_count(self._splits[split].rows, self.plan.shard_rows)
        return [read_json(self._record(split, shard)) for shard in range(count)]

    def _remove_strays(self, manifest: Manifest) -> None:
        """Temporary files that a kill left between their creation and their rename."""
        for path in self.partial.rglob("*"):
            name = path.relative_to(self.partial).as_posix()
            if path.is_file() and name not in manifest.files:
                path.unlink()


def to_stored(cls: Array, dtype: str, layers: tuple[int, ...]) -> Array:
    """(rows, layers, hidden) float32 in the stored type; raises CacheError naming a bad layer."""
    finite_L = np.isfinite(cls).all(axis=(0, 2))
    if not finite_L.all():
        raise CacheError(
            f"Layer {layers[int(finite_L.argmin())]}: the teacher gave NaN or infinity."
        )
    largest_L = np.abs(cls).max(axis=(0, 2))
    limit = float(np.finfo(dtype).max)
    if largest_L.max() > limit:
        layer = int(largest_L.argmax())
        raise CacheError(
            f"Layer {layers[layer]} has values up to {largest_L[layer]:.4g}, beyond {dtype} "
            f"(at most {limit:.4g}); build with --dtype float32."
        )
    return cls.astype(dtype)


def _plan_in(path: Path) -> object:
    try:
        return read_json(path)
    except DataError:
        return None


def _free_name(path: Path) -> Path:
    number = 0
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free
