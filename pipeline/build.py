"""Stage one: run a teacher once over prepared data and write its outputs to a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.batches import Rows, labels_of
from pipeline.data import Prepared
from pipeline.devices import pick_device
from pipeline.encode import encode
from pipeline.errors import OutputExistsError, ParamsError
from pipeline.exactness import row_errors, sample_rows, summarize
from pipeline.files import folder_size_bytes
from pipeline.layers import parse_layers
from pipeline.models import (
    DEFAULT_MAX_LENGTH,
    identify_model,
    identify_tokenizer,
    is_hub_id,
    read_teacher_record,
)
from pipeline.params import CacheParams
from pipeline.progress import Tick, silent
from pipeline.store.format import FORMAT_VERSION, MANIFEST
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.writer import CacheWriter, Plan
from pipeline.teacher_check import output_order, require_outputs, require_useful
from pipeline.teacher_pass import Teacher, load_teacher, run_rows

ERROR_ROWS = 64  # rows per split whose error is measured at build time
LIBRARIES = ("torch", "transformers", "tokenizers", "zarr", "numcodecs", "numpy", "pyarrow")

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
    if existing := _existing(out, plan, overwrite):
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


def plan_build(
    prepared: Prepared, teacher: Teacher, params: CacheParams
) -> tuple[Plan, dict[str, Any]]:
    """The plan of a build, and the manifest's fields that do not depend on its outcome."""
    record = read_teacher_record(teacher.name)
    layers = chosen_layers(params.layers, teacher.layers)
    max_length = params.max_length or record.get("max_length") or DEFAULT_MAX_LENGTH
    digest = identify_model(teacher.model)
    tokenizer = identify_tokenizer(teacher.tokenizer, teacher.name)
    identity = {
        "format_version": FORMAT_VERSION,
        "task": prepared.task.to_dict(),
        "teacher": digest,
        "output_order": list(teacher.output_order),
        "tokenizer": tokenizer["digest"],
        "data": prepared.digest,
        "max_length": max_length,
        "layers": list(layers),
        "dtype": params.dtype,
        "compute": params.compute,
    }
    plan = Plan(
        identity=identity,
        layers=layers,
        hidden_size=teacher.hidden_size,
        outputs=prepared.task.num_outputs,
        dtype=params.dtype,
        shard_rows=params.shard_rows,
        batch_tokens=params.batch_tokens,
    )
    name = teacher.name if is_hub_id(teacher.name) else Path(teacher.name).resolve().name
    described = {
        "task": prepared.task.to_dict(),
        "teacher": {
            "name": name,
            "digest": digest,
            "output_order": list(teacher.output_order),
            "layers": teacher.layers,
            "base": record.get("base"),
            "parameters": sum(p.numel() for p in teacher.model.parameters()),
        },
        "tokenizer": tokenizer,
        "data_digest": prepared.digest,
        "max_length": max_length,
        "compute": params.compute,
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES},
    }
    return plan, described


def chosen_layers(text: str, teacher_layers: int) -> tuple[int, ...]:
    """Parse `--layers`; raises ParamsError for layers that the teacher does not have."""
    if text == "all":
        return tuple(range(1, teacher_layers + 1))
    layers = tuple(sorted(set(parse_layers(text))))
    if layers[0] < 1 or layers[-1] > teacher_layers:
        raise ParamsError(
            f"--layers {text}: the teacher has layers 1..{teacher_layers} "
            "(the embeddings are the same for every row and are not cached)."
        )
    return layers


def _existing(out: Path, plan: Plan, overwrite: bool) -> Manifest | None:
    """The manifest of a cache of the same plan; refuses a different one unless it may go."""
    if not out.exists():
        return None
    if not (out / MANIFEST).exists():
        if overwrite:
            return None
        raise OutputExistsError(
            f"{out}: exists and is not a cache; choose another --out, or pass --overwrite."
        )
    manifest = read_manifest(out)
    same_layout = (manifest.shard_rows, manifest.batch_tokens) == (
        plan.shard_rows,
        plan.batch_tokens,
    )
    if manifest.cache_id == plan.cache_id and same_layout:
        return manifest
    if overwrite:
        return None
    raise OutputExistsError(
        f"{out}: {_difference(manifest, plan)}; pass --overwrite to replace it."
    )


def _difference(manifest: Manifest, plan: Plan) -> str:
    """Name the first field in which an existing cache differs from the plan."""
    has = {
        "teacher": manifest.teacher["digest"],
        "tokenizer": manifest.tokenizer["digest"],
        "data": manifest.data_digest,
        "max_length": manifest.max_length,
        "layers": list(manifest.layers),
        "dtype": manifest.dtype,
        "compute": manifest.compute,
        "shard_rows": manifest.shard_rows,
        "batch_tokens": manifest.batch_tokens,
        "task": manifest.task,
    }
    wants = plan.identity | {"shard_rows": plan.shard_rows, "batch_tokens": plan.batch_tokens}
    for field, found in has.items():
        if found != wants[field]:
            return f"holds a cache with {field} {_short(found)}, asked for {_short(wants[field])}"
    return "holds a cache with another order of outputs"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


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
                require_useful(self.teacher.name, task, logits, labels[known], split)
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
