"""One process's part of a build: its shards computed one by one, each written meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pipeline.batches import Rows, labels_of
from pipeline.caching.conclude import score_split
from pipeline.caching.exactness import measure_errors, require_exact, sample_rows
from pipeline.caching.shard_values import Shard, ShardValues
from pipeline.data import Prepared
from pipeline.models.encode import encode
from pipeline.params import CacheParams
from pipeline.progress import Tick
from pipeline.store.writer import CacheWriter
from pipeline.teacher.folds import OutOfFold
from pipeline.teacher.forward import run_rows
from pipeline.workers import Workers

Array = np.ndarray[Any, Any]

ERROR_ROWS = 64  # rows per split whose error is measured at build time


class BuildRun:
    """Computes, writes and counts; everything that it is given is settled."""

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
        self.pass_seconds: dict[str, float] = {}  # of splits of which nothing was there before
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
        teacher, task = self.values.teacher, self.prepared.task
        examples = encode(self.prepared.table(split), task, teacher.tokenizer, self.max_length)
        self.writer.add_split(split, examples)
        self.labels[split] = labels_of(examples)
        rows = Rows.from_examples(examples, teacher.tokenizer.pad_token_id).to(teacher.device)
        digests = examples["row_digest"].to_pylist()
        self.values.add_split(split, rows, digests)
        self.out_of_fold = None
        if self.folds and split in self.writer.plan.layout.out_of_fold:
            order = teacher.output_order
            self.out_of_fold = self.folds.of_rows(digests, teacher.name, order)
        return rows

    def _write(self, split: str, rows: Rows) -> None:
        self._require_resumed_exact(split)
        shards, every = self.writer.unfinished(split), self.writer.shards(split)
        total = sum(self.values.to_compute(split, shard) for shard in shards)
        meter = _Meter(self.tick, f"teacher over {split}", total)
        start, reused = time.monotonic(), self.reused
        with ThreadPoolExecutor(1) as writing:  # a shard is written while the next is computed
            last: Future[None] | None = None
            for shard in shards:
                store = self._computed(split, shard, rows, meter.add)
                if last:
                    last.result()
                last = writing.submit(store)
            if last:
                last.result()
        if len(shards) == len(every) and self.reused == reused:
            self.pass_seconds[split] = time.monotonic() - start

    def _computed(
        self, split: str, shard: int, rows: Rows, on_batch: Callable[[int, int], None]
    ) -> Callable[[], None]:
        """Compute a shard; what is returned writes it."""
        found = self.values.shard(split, shard, on_batch)
        errors = self._errors(split, shard, rows, found)
        held = self.writer.rows_of(split, shard)
        self.computed += found.computed
        self.copied += found.copied
        self.reused += found.reused
        return partial(
            self.writer.write_shard,
            split,
            shard,
            found.logits_RK,
            found.cls,
            out_of_fold=None if self.out_of_fold is None else self.out_of_fold[held],
            errors=errors,
            reused=found.reused,
        )

    def _require_resumed_exact(self, split: str) -> None:
        """Hold the shards of an earlier run, which asked for less maybe, to this one's limit."""
        for record in self.writer.resumed(split):
            self._require_exact(record["errors"])

    def _require_exact(self, errors: dict[str, Any] | None) -> None:
        layers, limit = self.values.layout.layers, self.params.max_error
        if errors and limit is not None:
            require_exact(errors, layers, limit, self.params.dtype)

    def _errors(self, split: str, shard: int, rows: Rows, found: Shard) -> dict[str, Any] | None:
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
        self._require_exact(errors)
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
