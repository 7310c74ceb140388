"""Running a sweep: workers that share one loaded cache and take trials from one study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.devices import pick_device
from pipeline.errors import ParamsError, PipelineError, TrainingError
from pipeline.files import write_json
from pipeline.locks import locked
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.store.resident import ResidentCache
from pipeline.strategies import AUTO
from pipeline.student.fit import fit_student
from pipeline.student.recipe import default_folder, settle
from pipeline.sweep.space import Space, all_points, describe_space, slug
from pipeline.sweep.study import (
    StudyPlan,
    default_storage,
    enqueue_missing,
    has_more,
    is_surplus,
    opened_study,
    point_of,
    suggest,
)
from pipeline.tasks import Task
from pipeline.training.runs import identifying
from pipeline.training.tracking import require_trackers

IN_A_NAME = ("strategy", "student_layers", "seed", "share", "pretrain")  # of `default_folder`
GPU_WORKERS = 4
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """A trial as people follow it."""

    number: int
    point: dict[str, Any]
    state: str
    """waiting, running, complete or fail."""
    score: float | None
    """The task's first metric."""
    folder: str | None
    error: str | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs."""

    cache: ResidentCache
    plan: StudyPlan
    base: StudentParams
    sources: dict[str, str]
    out: Path
    overwrite: bool
    threads: int | None


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
        workers: processes on this machine; None = one for each core, or 4 on a GPU.
        storage: URL of an Optuna storage; None = a SQLite file below `data/sweeps`.
        overwrite: replace students of other parameters that are in the way, and a sweep of this
            name of something else.
        on_change: told of all trials whenever one changes.

    Returns:
        name, task, metric, space, best (name, score, point; None without one), scores and points
        by student, failed by student, seconds.

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
            count = _worker_count(workers, base, len(points) or trials or 1)
            job = Job(
                cache=resident,
                plan=plan,
                base=base,
                sources=sources,
                out=out,
                overwrite=overwrite,
                threads=_threads(base, count),
            )
            _run_workers(job, count, study, on_change)
        result = _result(study, plan, task, time.monotonic() - start)
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


def _worker_count(workers: int | None, base: StudentParams, most: int) -> int:
    if workers is None:
        on_gpu = pick_device(base.device).type != "cpu"
        workers = GPU_WORKERS if on_gpu else len(os.sched_getaffinity(0))
    return max(1, min(workers, most))


def _threads(base: StudentParams, workers: int) -> int | None:
    """Of one worker; None = as they are."""
    if pick_device(base.device).type != "cpu" or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _run_workers(
    job: Job, count: int, study: Any, on_change: Callable[[list[TrialState]], None]
) -> None:
    if count == 1:
        work(job, lambda: on_change(trial_states(study)))
        return
    context = get_context("spawn")  # a fork would share locks of libraries, and no GPU
    processes = [
        context.Process(target=work, args=(job,), name=f"pkd-sweep-{index}")
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


def work(job: Job, on_trial: Callable[[], None] = lambda: None) -> None:
    """Make trials until there are none; what one worker process does."""
    import torch

    if job.threads and job.threads != torch.get_num_threads():
        torch.set_num_threads(job.threads)
    with opened_study(job.plan) as study:
        while has_more(study, job.plan):
            study.optimize(partial(make_trial, job), n_trials=1, catch=(PipelineError,))
            on_trial()


def make_trial(job: Job, trial: Any) -> float:
    """Train the student of one trial, or find it made already; its score."""
    import optuna

    if is_surplus(trial.study, job.plan, trial):
        raise optuna.TrialPruned
    start, point = time.monotonic(), suggest(trial, job.plan.space)
    params = replace(job.base, **point)
    task = Task.from_dict(job.cache.manifest.task)
    name = default_folder(task, params).name
    if more := slug(point, IN_A_NAME):
        name = f"{name}-{more}"
    trial.set_user_attr("folder", name)
    try:
        _, record = fit_student(
            cache_path=job.cache,
            out=job.out / name,
            params=params,
            sources=job.sources | dict.fromkeys(point, f"sweep {job.plan.name}"),
            resume=True,
            overwrite=job.overwrite,
        )
    except PipelineError as error:
        trial.set_user_attr("error", str(error))
        raise
    trial.set_user_attr("seconds", time.monotonic() - start)
    score: float = record["scores"][task.validation_splits[0]][task.metrics[0]]
    return score


def trial_states(study: Any) -> list[TrialState]:
    """All trials, by number; those that were given up for another of the same point left out."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name.lower()
        if state == "pruned" or (state == "fail" and "error" not in trial.user_attrs):
            continue
        found.append(
            TrialState(
                number=trial.number,
                point=point_of(trial),
                state=state,
                score=trial.value,
                folder=trial.user_attrs.get("folder"),
                error=trial.user_attrs.get("error"),
                seconds=trial.user_attrs.get("seconds"),
            )
        )
    return found


def _result(study: Any, plan: StudyPlan, task: Task, seconds: float) -> dict[str, Any]:
    states = trial_states(study)
    done = sorted(
        (each for each in states if each.score is not None),
        key=lambda each: (-(each.score or 0.0), each.number),
    )
    best = done[0] if done else None
    return {
        "name": plan.name,
        "task": task.name,
        "metric": task.metrics[0],
        "space": describe_space(plan.space),
        "best": best and {"student": best.folder, "score": best.score, "params": best.point},
        "scores": {str(each.folder): each.score for each in done},
        "points": {str(each.folder): each.point for each in done},
        "failed": {str(each.folder): each.error for each in states if each.state == "fail"},
        "seconds": seconds,
    }
