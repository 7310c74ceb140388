"""Running a sweep: workers that share one loaded cache and take trials from one study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.devices import pick_device
from pipeline.errors import ParamsError, TrainingError
from pipeline.files import write_json
from pipeline.locks import locked
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.store.resident import ResidentCache
from pipeline.strategies import AUTO
from pipeline.student.recipe import settle
from pipeline.sweep.space import Space, all_points
from pipeline.sweep.states import TrialState, result_of, trial_states
from pipeline.sweep.study import (
    StudyPlan,
    default_storage,
    enqueue_missing,
    opened_study,
)
from pipeline.sweep.worker import Job, work, work_apart
from pipeline.tasks import Task
from pipeline.training.runs import identifying
from pipeline.training.tracking import require_trackers

GPU_WORKERS = 4
POLL_SECONDS = 0.5


def run_sweep(
    *,
    cache_path: Path | str,
    space: Space,
    base: StudentParams,
    sources: dict[str, str],
    name: str,
    out: Path = Path("data/students"),
    sampler: str = "grid",
    trials: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
    overwrite: bool = False,
    on_change: Callable[[list[TrialState]], None] = lambda _: None,
) -> dict[str, Any]:
    """Train one student for every point of a grid, or for points that a sampler draws.

    The cache is read and checked once. A sweep that was stopped goes on; several machines may work
    on one of a shared `storage`.

    Args:
        cache_path: a finished cache: a folder, or any fsspec URL.
        space: what varies.
        base: what does not.
        sources: where each parameter came from, for the records.
        name: of the sweep.
        out: where the students go, a folder each.
        sampler: grid, tpe or random.
        trials: how many points a sampler draws.
        workers: processes on this machine; None = one for each core, or 4 for each GPU. They take
            the GPUs in turn, unless `base` names one.
        storage: URL of an Optuna storage; None = a SQLite file below `data/sweeps`.
        overwrite: replace students of other parameters that are in the way, and a sweep of this
            name of something else.
        on_change: told of all trials whenever one changes.

    Returns:
        name, task, metric, space, best (name, score, point; None without one), scores and points
        by student, failed by student, unfinished (points that other machines are at), seconds.

    Raises:
        ParamsError: a space or storage that cannot be.
        CacheError and its kin: see `fit_student`.
    """
    require_trackers(base.report_to)
    start, cache = time.monotonic(), TeacherCache.open(cache_path)
    cache.require_complete()
    points = all_points(space) if sampler == "grid" else []
    if sampler != "grid" and not trials:
        raise ParamsError(f"--sampler {sampler}: say how many with --trials.")
    plan = StudyPlan(
        name=name,
        storage=storage or default_storage(Path("data/sweeps")),
        sampler=sampler,
        trials=trials,
        space=space,
        seed=base.seed,
        identity={"cache": cache.manifest.content_digest, "params": identifying(base)},
    )
    layers = _layers_of(cache, [replace(base, **point) for point in points] or [base], space)
    task = Task.from_dict(cache.manifest.task)
    # without a storage of its own the study is this machine's alone, and one command's at a time
    alone = locked(Path("data/sweeps") / name) if storage is None else nullcontext()
    with (
        alone,
        TemporaryDirectory(prefix="pkd-sweep-") as folder,
        opened_study(plan, overwrite=overwrite) as study,
    ):
        finished = enqueue_missing(study, points, alone=storage is None)
        if finished < (len(points) or trials or 0):
            splits = ("train", *task.validation_splits)
            resident = ResidentCache.load(cache, Path(folder), layers, splits)
            gpus = gpus_of(base.device)
            count = _worker_count(workers, base, len(gpus), len(points) or trials or 1)
            job = Job(
                cache=resident,
                plan=plan,
                base=base,
                sources=sources,
                out=out,
                overwrite=overwrite,
                threads=_threads(base, count),
                alone=storage is None,
            )
            _run_workers(job, count, gpus, study, on_change)
        result = result_of(study, plan, task, time.monotonic() - start)
    write_json(Path("data/metrics") / f"sweep-{name}.json", result)
    return result


def _layers_of(cache: TeacherCache, runs: Sequence[StudentParams], space: Space) -> tuple[int, ...]:
    """Teacher layers that any of the runs reads; refuses a run that cannot be, before any is made.

    What a sampler will draw is not known: then layers are read when they are needed.
    """
    found: set[int] = set()
    for params in runs:
        if params.strategy == AUTO:
            found.update(cache.manifest.layers)
        elif "strategy" not in space or len(runs) > 1:
            found.update(settle(cache.manifest, params, cache.text).strategy.teacher_layers)
    return tuple(sorted(found))


def gpus_of(device: str) -> tuple[str, ...]:
    """GPUs for workers to take in turn, as CUDA_VISIBLE_DEVICES names them.

    Args:
        device: `auto`, `cuda` and so on; of one that is named, or a CPU, there are none to choose.
    """
    if device not in ("auto", "cuda") or pick_device(device).type != "cuda":
        return ()
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return tuple(visible.split(","))
    return tuple(str(index) for index in range(torch.cuda.device_count()))


def _worker_count(workers: int | None, base: StudentParams, gpus: int, most: int) -> int:
    if workers is None:
        on_cpu = pick_device(base.device).type == "cpu"
        workers = len(os.sched_getaffinity(0)) if on_cpu else GPU_WORKERS * max(1, gpus)
    return max(1, min(workers, most))


def _threads(base: StudentParams, workers: int) -> int | None:
    """Of one worker; None = as they are."""
    if pick_device(base.device).type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _run_workers(
    job: Job,
    count: int,
    gpus: Sequence[str],
    study: Any,
    on_change: Callable[[list[TrialState]], None],
) -> None:
    if count == 1:
        work(job, lambda: on_change(trial_states(study)))
        return
    context = get_context("spawn")  # a fork would share locks of libraries, and no GPU
    processes = [
        context.Process(
            target=work_apart,
            args=(job, index, gpus[index % len(gpus)] if gpus else None),
            name=f"pkd-sweep-{index}",
        )
        for index in range(count)
    ]
    for process in processes:
        process.start()
    try:
        last: list[TrialState] = []
        while any(process.is_alive() for process in processes):
            last = _tell(study, last, on_change)
            time.sleep(POLL_SECONDS)
        _tell(study, last, on_change)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if any(process.exitcode for process in processes):
        raise TrainingError(
            f"Sweep {job.plan.name}: a worker stopped before the end (see above); the same command "
            "goes on with what is left."
        )


def _tell(
    study: Any, last: list[TrialState], on_change: Callable[[list[TrialState]], None]
) -> list[TrialState]:
    now = trial_states(study)
    if [each.state for each in now] != [each.state for each in last]:
        on_change(now)
    return now
