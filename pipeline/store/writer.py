"""Writing a cache: shard by shard into a partial folder, resumable, published by one rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from pipeline.errors import CacheCorruptError, CacheError, DataError
from pipeline.files import partial_path, publish, read_json, write_atomic, write_json
from pipeline.locks import locked, locked_worker
from pipeline.store.arrays import create_arrays
from pipeline.store.compose import compose_manifest
from pipeline.store.examples import describe, write_examples
from pipeline.store.format import EXAMPLES, MANIFEST, METADATA
from pipeline.store.manifest import Manifest, Split, read_manifest
from pipeline.store.plan import Plan, Share
from pipeline.store.shards import ShardFiles
from pipeline.store.stored import Stored

PLAN = "plan.json"
PART = "part.json"
PART_FORMAT = "pkd-teacher-cache-part"

Array = np.ndarray[Any, Any]


class CacheWriter:
    """Builds one cache under a lock.

    Promises: what is published is complete; a build that was killed goes on from the last finished
    shard when the plan is the same; another plan's partial build, or one that other library
    versions wrote, is set aside, never continued; a second builder is refused. Does not: compute
    anything.

    Args of the constructor:
        target: the cache, or the part of one that `publish_part` makes.
        plan: what is written.
        share: this worker's shards.
        joins: whether another process of the same build holds the lock and prepares the folder.
        meet: waits for all processes of the build; they enter and add splits together.
        versions: of the libraries that the bytes depend on; a manifest states one of each.
    """

    def __init__(
        self,
        target: Path,
        plan: Plan,
        *,
        share: Share | None = None,
        joins: bool = False,
        meet: Callable[[], None] = lambda: None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.plan = plan
        self.share = share or Share()
        self.joins = joins
        self._meet = meet
        self._started = plan.to_dict() | ({} if versions is None else {"versions": dict(versions)})
        self.partial = partial_path(target)
        self.records = target.parent / f".{target.name}.records"
        self.files = ShardFiles(self.partial, self.records, plan.layout)
        self.resumed_shards = 0
        """Shards found finished when the writer was opened."""
        self.set_aside: Path | None = None
        """Where the partial build of another plan, or of other library versions, was moved."""
        self.splits: dict[str, Split] = {}
        self._first_number: dict[str, int] = {}
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.joins:
                self._meet()
                stack.enter_context(locked_worker(self.target, self.share.index))
            else:
                stack.enter_context(locked(self.target))
                self._resume_or_start()
                self._meet()
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _resume_or_start(self) -> None:
        plan_path = self.records / PLAN
        same_plan = _plan_in(plan_path) == self._started
        if same_plan and self._was_replaced():
            shutil.rmtree(self.partial)
        if self.partial.exists() and same_plan:
            self.resumed_shards = self.files.keep_sound()
            return
        if self.partial.exists():
            self.set_aside = _free_name(self.target.parent / f".{self.target.name}.set-aside")
            self.partial.rename(self.set_aside)
        shutil.rmtree(self.records, ignore_errors=True)
        write_json(plan_path, self._started)
        self.partial.mkdir(parents=True)

    def _was_replaced(self) -> bool:
        """Whether the partial folder is another cache that a swap put there before a kill.

        Its removal is all that the swap had left to do. A manifest of this plan is that of a build
        that was killed just before its swap.
        """
        try:
            found = read_manifest(self.partial)
        except CacheCorruptError:
            return False
        except CacheError:
            return (self.partial / PART).is_file() and self.target.exists()
        return (
            found.cache_id != self.plan.cache_id or found.shard_rows != self.plan.layout.shard_rows
        )

    def add_split(self, split: str, examples: Any) -> None:
        """Write a split's tokens and labels, and create its empty arrays.

        Every worker adds all splits in the same order; one that joins only takes note.

        Args:
            split: its name.
            examples: `pyarrow.Table` as `pipeline.models.encode.encode` makes it.
        """
        layout = self.plan.layout
        self._first_number[split] = sum(len(layout.shards(s.rows)) for s in self.splits.values())
        self.splits[split] = describe(examples)
        if not self.joins:
            self._prepare(split, examples)
        self._meet()

    def _prepare(self, split: str, examples: Any) -> None:
        layout = self.plan.layout
        write_examples(self.partial / split / EXAMPLES, examples)
        with TemporaryDirectory() as folder:
            create_arrays(Path(folder), split, layout.specs(split, examples.num_rows).values())
            for path in Path(folder).rglob(METADATA):
                self._keep_metadata(path.relative_to(folder), path.read_bytes())

    def _keep_metadata(self, name: Path, content: bytes) -> None:
        """Make a `zarr.json` what it must be, durably: a power cut may have emptied it."""
        target = self.partial / name
        if not target.is_file() or target.read_bytes() != content:
            write_atomic(target, content)

    def unfinished(self, split: str) -> list[int]:
        """This worker's shards of a split that still have to be written, in order."""
        return [shard for shard in self._mine(split) if not self.files.is_finished(split, shard)]

    def resumed(self, split: str) -> list[dict[str, Any]]:
        """Records of this worker's shards of a split that are finished, in order."""
        finished = [s for s in self._mine(split) if self.files.is_finished(split, s)]
        return [self.files.record(split, shard) for shard in finished]

    def holds_all(self, split: str) -> bool:
        """Whether every shard of a split is this worker's."""
        return len(self._mine(split)) == len(self.shards(split))

    def _mine(self, split: str) -> list[int]:
        first = self._first_number[split]
        return [shard for shard in self.shards(split) if self.share.holds(first + shard)]

    def shards(self, split: str) -> range:
        """All shards of a split, those of other workers too."""
        return self.plan.layout.shards(self.splits[split].rows)

    def rows_of(self, split: str, shard: int) -> slice:
        """Rows of a split that a shard holds."""
        return self.plan.layout.rows_of(shard, self.splits[split].rows)

    def write_shard(
        self,
        split: str,
        shard: int,
        logits: Array,
        cls: Stored,
        *,
        out_of_fold: Array | None = None,
        errors: dict[str, Any] | None = None,
        reused: int = 0,
    ) -> None:
        """Write one whole shard, make it durable, then record it as finished.

        Args:
            split: its name.
            shard: its number.
            logits: (rows, outputs) float32.
            cls: (rows, layers, hidden) as `pipeline.store.stored.encode_cls` makes it.
            out_of_fold: (rows, outputs) float32, where the plan's layout has them.
            errors: what was measured on its sampled rows, see `pipeline.caching.exactness`.
            reused: rows of it that came from an earlier cache.

        Raises:
            CacheError: logits that are not finite.
        """
        more = {"errors": errors, "reused": reused}
        rows = self.rows_of(split, shard)
        self.files.write(split, shard, rows, logits, cls, more, out_of_fold)

    def all_records(self) -> list[dict[str, Any]]:
        """Records of all shards, in order."""
        return [r for split in self.splits for r in self._records(split)]

    def require_complete(self) -> None:
        """Raise CacheError when a shard of any worker is missing."""
        for split in self.splits:
            missing = [s for s in self.shards(split) if not self.files.is_finished(split, s)]
            if missing:
                raise CacheError(f"{self.target}: {split} lacks shards {missing}; run build again.")

    def finish(self, described: dict[str, Any]) -> Manifest:
        """Check completeness, write the manifest last, publish by one rename.

        Args:
            described: the manifest's fields that the writer does not know.

        Raises:
            CacheError: a shard is missing.
        """
        self.require_complete()
        records = {split: self._records(split) for split in self.splits}
        settle = self.files.settle
        manifest = compose_manifest(self.plan, self.splits, records, described, settle)
        self._remove_strays(set(manifest.files))
        content = manifest.to_bytes()
        Manifest.from_bytes(content, str(self.target))  # what no reader would take is not published
        write_atomic(self.partial / MANIFEST, content)
        publish(self.partial, self.target)
        shutil.rmtree(self.records)
        return manifest

    def publish_part(self, described: dict[str, Any]) -> None:
        """Publish this worker's shards as a part, for `pkd-cache merge`; it is no cache.

        Args:
            described: the manifest's fields that are known before all shards are.
        """
        records = {
            split: {str(shard): self.files.record(split, shard) for shard in self._mine(split)}
            for split in self.splits
        }
        examples = [f"{split}/{EXAMPLES}" for split in self.splits]
        content: dict[str, Any] = {
            "format": PART_FORMAT,
            "plan": self.plan.to_dict(),
            "index": self.share.index,
            "count": self.share.count,
            "described": described,
            "splits": {split: asdict(info) for split, info in self.splits.items()},
            "records": records,
            "examples": {name: self.files.settle(name) for name in examples},
        }
        kept = set(content["examples"])
        for of_split in records.values():
            kept.update(name for record in of_split.values() for name in record["files"])
        self._remove_strays(kept)
        write_json(self.partial / PART, content)
        publish(self.partial, self.target)
        shutil.rmtree(self.records)

    def _records(self, split: str) -> list[dict[str, Any]]:
        return [self.files.record(split, shard) for shard in self.shards(split)]

    def _remove_strays(self, kept: set[str]) -> None:
        """Temporary files that a kill left between their creation and their rename."""
        for path in self.partial.rglob("*"):
            if path.is_file() and path.relative_to(self.partial).as_posix() not in kept:
                path.unlink()


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
