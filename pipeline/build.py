"""Stage one: write a teacher's outputs to a cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.batches import Rows
from pipeline.conclude import conclude, score_split
from pipeline.data import Prepared
from pipeline.encode import encode
from pipeline.errors import ParamsError
from pipeline.exactness import measure_errors, require_exact, sample_rows
from pipeline.files import folder_size_bytes
from pipeline.folds import OutOfFold, read_out_of_fold
from pipeline.params import CacheParams
from pipeline.plan import existing_cache, existing_part, plan_build
from pipeline.progress import Tick, silent
from pipeline.reuse import EarlierRows, Wanted
from pipeline.shard_values import ShardValues
from pipeline.store.manifest import Manifest
from pipeline.store.writer import CacheWriter, Plan, Share
from pipeline.teacher_check import output_order, require_outputs
from pipeline.teacher_pass import Teacher, load_teacher, run_rows
from pipeline.workers import Workers, join_workers

Array = np.ndarray[Any, Any]

ERROR_ROWS = 64  # rows per split whose error is measured at build time


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did, in this process."""

    target: Path
    manifest: Manifest | None
    """None of a part, and in a process that does not lead."""
    existed: bool
    """Whether it was there already, from the same plan."""
    workers: Workers
    device: str
    seconds: float
    computed_rows: int = 0
    """Rows that the teacher ran over."""
    copied_rows: int = 0
    """Rows that repeat another one."""
    reused_rows: int = 0
    """Rows from an earlier cache."""
    resumed_shards: int = 0
    train_pass_seconds: float | None = None
    """Teacher time over the training split; None when not all of it was computed here and now."""
    set_aside: Path | None = None
    """Where an unfinished build of another plan was moved."""


def build_cache(
    *,
    prepared: Prepared,
    teacher_name: str,
    out: Path,
    params: CacheParams,
    overwrite: bool = False,
    reuse: Path | str | None = None,
    share: Share | None = None,
    tick: Tick = silent,
) -> Built:
    """Build a cache, or go on with an unfinished one; several processes build one together.

    Args:
        prepared: the data, from `pkd-data prepare`.
        teacher_name: folder or hub id of a fine-tuned classifier.
        out: the cache's folder, or with `share` the folder of this part of it.
        params: every option.
        overwrite: replace a cache of another plan.
        reuse: an earlier cache of the same teacher, whose rows are taken over.
        share: compute these shards alone and publish them as a part, for `merge_parts`.
        tick: told of rows and tokens.

    Raises:
        ModelError, TeacherRefusedError: the teacher cannot be loaded, is no better than chance,
            or has its labels permuted.
        CacheMismatchError: `reuse` is of another teacher or type.
        OutputExistsError: there is a cache of another plan.
        BusyError, CacheError: see `CacheWriter`.
    """
    start = time.monotonic()
    workers = join_workers()
    if share and workers.count > 1:
        raise ParamsError("--shard is for separate commands; under a launcher leave it out.")
    teacher = _load(teacher_name, prepared, params, workers)
    folds = read_out_of_fold(teacher_name, prepared.task.num_outputs)
    plan, described = plan_build(prepared, teacher, params, folds)
    earlier = _earlier(reuse, plan, params) if reuse else None
    if earlier:
        plan = replace(plan, reuse=earlier.cache.manifest.content_digest)
    done = partial(Built, target=out, workers=workers, device=teacher.device.type)
    existing = existing_part(out, plan, share, overwrite) if share else None
    manifest = None if share else existing_cache(out, plan, overwrite)
    if existing or manifest:
        seconds = time.monotonic() - start
        return done(manifest=manifest, existed=True, seconds=seconds)
    with _writer(out, plan, share, workers) as writer:
        values = ShardValues(teacher, plan.layout, plan.batch_tokens, writer.files, earlier)
        run = _Run(writer, values, prepared, params, workers, described["max_length"], folds, tick)
        run.all_splits()
        workers.meet()
        if share:
            writer.publish_part(described)
        elif workers.leads:
            manifest = conclude(writer, prepared.task, described, run.labels, params)
        workers.meet()
    return done(
        manifest=manifest,
        existed=False,
        seconds=time.monotonic() - start,
        computed_rows=run.computed,
        copied_rows=run.copied,
        reused_rows=run.reused,
        resumed_shards=writer.resumed_shards,
        train_pass_seconds=run.pass_seconds.get("train"),
        set_aside=writer.set_aside,
    )


def timings(built: Built) -> dict[str, Any]:
    """What has a clock in it, and so no place in the manifest: a DVC metric."""
    manifest = built.manifest
    assert manifest
    rows = sum(info.rows for info in manifest.splits.values())
    tokens = sum(info.tokens for info in manifest.splits.values())
    complete = built.computed_rows + built.copied_rows == rows
    return {
        "task": manifest.task["name"],
        "rows": rows,
        "computed_rows": built.computed_rows,
        "copied_rows": built.copied_rows,
        "reused_rows": built.reused_rows,
        "workers": built.workers.count,
        "tokens": tokens,
        "seconds": built.seconds,
        "rows_per_second": built.computed_rows / built.seconds,
        "tokens_per_second": tokens / built.seconds if complete else None,
        "train_pass_seconds": built.train_pass_seconds,
        "size_bytes": folder_size_bytes(built.target),
        "compute": manifest.compute,
        "device": built.device,
    }


def _load(name: str, prepared: Prepared, params: CacheParams, workers: Workers) -> Teacher:
    order = output_order(prepared.task, params.teacher_labels)
    teacher = load_teacher(
        name, device=workers.device(params.device), compute=params.compute, output_order=order
    )
    named = params.teacher_labels is not None
    require_outputs(name, teacher.model.config, prepared.task, named=named)
    return teacher


def _earlier(reuse: Path | str, plan: Plan, params: CacheParams) -> EarlierRows:
    wanted = Wanted(
        teacher_digest=plan.identity["teacher"],
        output_order=tuple(plan.identity["output_order"]),
        compute=params.compute,
        layers=plan.layout.layers,
        dtype=params.dtype,
    )
    return EarlierRows(reuse, wanted)


def _writer(out: Path, plan: Plan, share: Share | None, workers: Workers) -> CacheWriter:
    """The leader's writer prepares the folder before the others join it."""
    mine = share or Share(workers.index, workers.count)
    return CacheWriter(out, plan, share=mine, joins=not workers.leads, meet=workers.meet)


class _Run:
    """One process's part of a build under way."""

    def __init__(
        self,
        writer: CacheWriter,
        values: ShardValues,
        prepared: Prepared,
        params: CacheParams,
        workers: Workers,
        max_length: int,
        folds: OutOfFold | None,
        tick: Tick,
    ) -> None:
        self.folds = folds
        self.out_of_fold: Array | None = None  # (rows, outputs) of the split that has them
        self.writer, self.values, self.prepared, self.params = writer, values, prepared, params
        self.workers, self.max_length, self.tick = workers, max_length, tick
        self.computed = self.copied = self.reused = 0
        self.pass_seconds: dict[str, float] = {}
        self.labels: dict[str, Any] = {}

    def all_splits(self) -> None:
        """Write every split; validation first, so that a bad teacher fails in seconds."""
        task = self.prepared.task
        first = [name for name in task.validation_splits if name in self.prepared.splits]
        rest = [name for name in self.prepared.splits if name not in first]
        for split in (*first, *rest):
            rows = self._add(split)
            self._write(split, rows)
            if split in first:
                self._require_useful(split)

    def _add(self, split: str) -> Rows:
        from pipeline.batches import labels_of

        teacher, task = self.values.teacher, self.prepared.task
        examples = encode(self.prepared.table(split), task, teacher.tokenizer, self.max_length)
        self.writer.add_split(split, examples)
        self.labels[split] = labels_of(examples)
        rows = Rows.from_examples(examples, teacher.tokenizer.pad_token_id)
        digests = examples["row_digest"].to_pylist()
        self.values.add_split(split, rows, digests)
        self.out_of_fold = None
        if self.folds and split in self.writer.plan.layout.out_of_fold:
            order = teacher.output_order
            self.out_of_fold = self.folds.of_rows(digests, teacher.name, order)
        return rows

    def _write(self, split: str, rows: Rows) -> None:
        shards, every = self.writer.unfinished(split), self.writer.shards(split)
        total = sum(self.values.to_compute(split, shard) for shard in shards)
        meter = _Meter(self.tick, f"teacher over {split}", total)
        start, before = time.monotonic(), self.computed
        for shard in shards:
            self._write_shard(split, shard, rows, meter.add)
        if self.computed - before == sum(map(partial(self.values.to_compute, split), every)):
            self.pass_seconds[split] = time.monotonic() - start

    def _write_shard(
        self, split: str, shard: int, rows: Rows, on_batch: Callable[[int, int], None]
    ) -> None:
        found = self.values.shard(split, shard, on_batch)
        errors = self._errors(split, shard, rows, found)
        held = self.writer.rows_of(split, shard)
        more = None if self.out_of_fold is None else self.out_of_fold[held]
        self.writer.write_shard(
            split,
            shard,
            found.logits_RK,
            found.cls,
            out_of_fold=more,
            errors=errors,
            reused=found.reused,
        )
        self.computed += found.computed
        self.copied += found.copied
        self.reused += found.reused

    def _errors(self, split: str, shard: int, rows: Rows, found: Any) -> dict[str, Any] | None:
        """Stored values of the shard's sampled rows against a float32 forward of them."""
        held = self.writer.rows_of(split, shard)
        sample = [
            row for row in sample_rows(len(rows), ERROR_ROWS) if held.start <= row < held.stop
        ]
        if not sample:
            return None
        exact = replace(self.values.teacher, compute="float32")
        layers = self.values.layout.layers
        logits, cls = run_rows(exact, rows, sample, layers, self.values.batch_tokens)
        place = np.asarray(sample) - held.start
        stored = found.logits_RK[place], found.cls[place].decode()
        errors = measure_errors(logits, cls, *stored)
        if self.params.max_error is not None:
            require_exact(errors, layers, self.params.max_error, self.params.dtype)
        return errors

    def _require_useful(self, split: str) -> None:
        """Refuse a bad teacher before the training rows, where all its rows are at hand."""
        self.workers.meet()
        whole = self.workers.count > 1 or self.writer.holds_all(split)
        if whole and self.workers.leads:
            logits, teacher = self.writer.files.logits(split), self.values.teacher
            allow_weak, order = self.params.allow_weak_teacher, teacher.output_order
            task, labels = self.prepared.task, self.labels[split]
            score_split(task, split, logits, labels, teacher.name, order, allow_weak=allow_weak)


class _Meter:
    """Sums the rows and tokens of finished batches for a Tick."""

    def __init__(self, tick: Tick, what: str, total: int) -> None:
        self._tick, self._what, self._total = tick, what, total
        self._rows = self._tokens = 0

    def add(self, rows: int, tokens: int) -> None:
        self._rows += rows
        self._tokens += tokens
        self._tick(self._what, self._rows, self._total, rows=self._rows, tokens=self._tokens)
