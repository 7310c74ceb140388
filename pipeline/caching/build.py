"""Stage one: write a teacher's outputs to a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.caching.conclude import conclude
from pipeline.caching.exactness import require_stated_exact, summarize
from pipeline.caching.plan import existing_cache, existing_part, plan_build
from pipeline.caching.reuse import EarlierRows, Wanted
from pipeline.caching.shard_values import ShardValues
from pipeline.caching.splits import BuildRun
from pipeline.data import Prepared
from pipeline.errors import ParamsError
from pipeline.files import folder_size_bytes
from pipeline.params import CacheParams
from pipeline.progress import Tick, silent
from pipeline.store.manifest import Manifest
from pipeline.store.plan import Plan, Share
from pipeline.store.writer import CacheWriter
from pipeline.teacher.check import output_order, require_outputs
from pipeline.teacher.folds import read_out_of_fold
from pipeline.teacher.forward import Teacher, load_teacher
from pipeline.workers import Workers, join_workers


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
        BusyError, CacheError: see `CacheWriter`; CacheError also of a build, finished or not, that
            is less exact than `params.max_error` allows.
    """
    start = time.monotonic()
    workers = join_workers(params.device)
    if share and workers.count > 1:
        raise ParamsError("--shard is for separate commands; under a launcher leave it out.")
    teacher = _load(teacher_name, prepared, params, workers)
    folds = read_out_of_fold(teacher_name, prepared.task.num_outputs)
    plan, described = plan_build(prepared, teacher, params, folds)
    earlier = _earlier(reuse, plan, params) if reuse else None
    if earlier:
        plan = replace(plan, reuse=earlier.cache.manifest.content_digest)
    done = partial(Built, target=out, workers=workers, device=teacher.device.type)
    part = existing_part(out, plan, described, share, overwrite) if share else None
    manifest = None if share else existing_cache(out, plan, overwrite)
    if part or manifest:
        _require_exact(out, manifest.measured_error if manifest else _stated(part, plan), params)
        seconds = time.monotonic() - start
        return done(manifest=manifest, existed=True, seconds=seconds)
    with _writer(out, plan, share, workers, described["versions"]) as writer:
        values = ShardValues(teacher, plan.layout, plan.batch_tokens, writer.files, earlier)
        run = BuildRun(
            writer, values, prepared, params, workers, described["max_length"], folds, tick
        )
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


def _require_exact(where: Path, stated: dict[str, Any] | None, params: CacheParams) -> None:
    """Hold what is there already to `--max-error`."""
    if stated and params.max_error is not None:
        require_stated_exact(where, stated, params.max_error, params.dtype)


def _stated(part: dict[str, Any] | None, plan: Plan) -> dict[str, Any] | None:
    """What a manifest would state of the shards of a part; None where no row was measured."""
    assert part
    records = [record for of_split in part["records"].values() for record in of_split.values()]
    errors = [record["errors"] for record in records if record["errors"]]
    return summarize(errors, plan.layout.layers) if errors else None


def _writer(
    out: Path, plan: Plan, share: Share | None, workers: Workers, versions: dict[str, str]
) -> CacheWriter:
    """The leader's writer prepares the folder before the others join it."""
    mine, joins = share or Share(workers.index, workers.count), not workers.leads
    return CacheWriter(out, plan, share=mine, joins=joins, meet=workers.meet, versions=versions)
