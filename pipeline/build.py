"""Stage one: run a teacher once over prepared data and write its outputs to a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.batches import Rows, labels_of
from pipeline.data import Prepared
from pipeline.devices import pick_device
from pipeline.encode import encode
from pipeline.exactness import row_errors, sample_rows, summarize
from pipeline.files import folder_size_bytes
from pipeline.params import CacheParams
from pipeline.plan import existing_cache, plan_build
from pipeline.progress import Tick, silent
from pipeline.store.manifest import Manifest
from pipeline.store.writer import CacheWriter, Plan
from pipeline.teacher_check import output_order, require_outputs, require_useful
from pipeline.teacher_pass import Teacher, load_teacher, run_rows

ERROR_ROWS = 64  # rows per split whose error is measured at build time

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did."""

    manifest: Manifest
    existed: bool
    """Whether the cache was there already, from the same plan."""
    computed_rows: int
    resumed_shards: int
    seconds: float
    train_pass_seconds: float | None
    """Teacher time over the training split; None when some of it was computed earlier."""
    scores: dict[str, dict[str, float]]
    device: str
    notes: tuple[str, ...]


def build_cache(
    *,
    prepared: Prepared,
    teacher_name: str,
    out: Path,
    params: CacheParams,
    overwrite: bool = False,
    tick: Tick = silent,
) -> Built:
    """Build a cache, or go on with an unfinished one.

    Args:
        prepared: the data, from `pkd-data prepare`.
        teacher_name: folder or hub id of a fine-tuned classifier.
        out: the cache's folder.
        params: every option.
        overwrite: replace a cache of another plan.
        tick: told of rows and tokens.

    Raises:
        ModelError, TeacherRefusedError: the teacher cannot be loaded, is no better than chance,
            or has its labels permuted.
        OutputExistsError: there is a cache of another plan.
        BusyError, CacheError: see `CacheWriter`.
    """
    start = time.monotonic()
    order = output_order(prepared.task, params.teacher_labels)
    teacher = load_teacher(
        teacher_name, device=pick_device(params.device), compute=params.compute, output_order=order
    )
    named = params.teacher_labels is not None
    require_outputs(teacher_name, teacher.model.config, prepared.task, named=named)
    plan, described = plan_build(prepared, teacher, params)
    if existing := existing_cache(out, plan, overwrite):
        return Built(
            manifest=existing,
            existed=True,
            computed_rows=0,
            resumed_shards=0,
            notes=(),
            seconds=time.monotonic() - start,
            train_pass_seconds=None,
            scores=existing.teacher["scores"],
            device=teacher.device.type,
        )
    with CacheWriter(out, plan) as writer:
        run = _Run(writer, teacher, prepared, plan, described["max_length"], tick)
        scores = run.all_splits(allow_weak=params.allow_weak_teacher)
        described["teacher"]["scores"] = scores
        manifest = writer.finish(lambda: described | {"measured_error": run.measured_error()})
    return Built(
        manifest=manifest,
        existed=False,
        computed_rows=run.computed_rows,
        resumed_shards=writer.resumed_shards,
        seconds=time.monotonic() - start,
        train_pass_seconds=run.pass_seconds.get("train"),
        scores=scores,
        device=teacher.device.type,
        notes=_notes(writer),
    )


def timings(built: Built, folder: Path) -> dict[str, Any]:
    """What has a clock in it, and so no place in the manifest: a DVC metric."""
    manifest = built.manifest
    rows = sum(info.rows for info in manifest.splits.values())
    tokens = sum(info.tokens for info in manifest.splits.values())
    complete = built.computed_rows == rows
    return {
        "task": manifest.task["name"],
        "rows": rows,
        "computed_rows": built.computed_rows,
        "tokens": tokens,
        "seconds": built.seconds,
        "rows_per_second": built.computed_rows / built.seconds,
        "tokens_per_second": tokens / built.seconds if complete else None,
        "train_pass_seconds": built.train_pass_seconds,
        "size_bytes": folder_size_bytes(folder),
        "compute": manifest.compute,
        "device": built.device,
    }


def _notes(writer: CacheWriter) -> tuple[str, ...]:
    if writer.set_aside is None:
        return ()
    text = "An unfinished build of another teacher, data or option was set aside in"
    return (f"{text} {writer.set_aside}; delete it when you do not need it.",)


class _Run:
    """One build under way: which rows were computed and how long the teacher took."""

    def __init__(
        self,
        writer: CacheWriter,
        teacher: Teacher,
        prepared: Prepared,
        plan: Plan,
        max_length: int,
        tick: Tick,
    ) -> None:
        self.writer, self.teacher, self.prepared, self.plan = writer, teacher, prepared, plan
        self.max_length, self.tick = max_length, tick
        self.computed_rows = 0
        self.pass_seconds: dict[str, float] = {}
        self._rows: dict[str, Rows] = {}

    def all_splits(self, *, allow_weak: bool) -> dict[str, dict[str, float]]:
        """Write every split; validation first, so that a bad teacher fails in seconds."""
        task = self.prepared.task
        first = [name for name in task.validation_splits if name in self.prepared.splits]
        rest = [name for name in self.prepared.splits if name not in first]
        scores: dict[str, dict[str, float]] = {}
        for split in (*first, *rest):
            table = self.prepared.table(split)
            labels = self._write(split, table)
            known = labels != -100 if labels.dtype == np.int64 else ~np.isnan(labels)
            if not known.any():
                continue
            logits = self.writer.logits(split)[known]
            scores[split] = metrics.score(task, logits, labels[known])
            if split in first and not allow_weak:
                require_useful(
                    self.teacher.name, task, logits, labels[known], split, self.teacher.output_order
                )
        return scores

    def _write(self, split: str, table: Any) -> Array:
        examples = encode(table, self.prepared.task, self.teacher.tokenizer, self.max_length)
        self.writer.add_split(split, examples)
        rows = Rows.from_examples(examples, self.teacher.tokenizer.pad_token_id)
        self._rows[split] = rows
        shards = self.writer.unfinished(split)
        total = sum(_size(self.writer.rows_of(split, shard)) for shard in shards)
        meter = _Meter(self.tick, f"teacher over {split}", total)
        start = time.monotonic()
        for shard in shards:
            place = self.writer.rows_of(split, shard)
            chosen = range(place.start, place.stop)
            logits, cls = run_rows(
                self.teacher, rows, chosen, self.plan.layers, self.plan.batch_tokens, meter.add
            )
            self.writer.write_shard(split, shard, logits, cls)
        if total == len(rows):
            self.pass_seconds[split] = time.monotonic() - start
        self.computed_rows += total
        return labels_of(examples)

    def measured_error(self) -> dict[str, Any]:
        """Stored values of sampled rows against a float32 forward of them."""
        exact = replace(self.teacher, compute="float32")
        found = []
        for split, rows in self._rows.items():
            chosen = sample_rows(len(rows), ERROR_ROWS)
            logits, cls = run_rows(exact, rows, chosen, self.plan.layers, self.plan.batch_tokens)
            stored = self.writer.logits(split)[chosen], self.writer.cls_rows(split, chosen)
            found.append(row_errors(logits, cls, *stored))
        return summarize(found, self.plan.layers)


def _size(rows: slice) -> int:
    return int(rows.stop - rows.start)


class _Meter:
    """Sums the rows and tokens of finished batches for a Tick."""

    def __init__(self, tick: Tick, what: str, total: int) -> None:
        self._tick, self._what, self._total = tick, what, total
        self._rows = self._tokens = 0

    def add(self, rows: int, tokens: int) -> None:
        self._rows += rows
        self._tokens += tokens
        self._tick(self._what, self._rows, self._total, rows=self._rows, tokens=self._tokens)
