"""One worker of a sweep: takes trials from the study and trains their students."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.errors import PipelineError
from pipeline.locks import locked_worker
from pipeline.params import StudentParams
from pipeline.store.resident import ResidentCache
from pipeline.student.fit import fit_student
from pipeline.student.recipe import default_folder
from pipeline.sweep.space import slug
from pipeline.sweep.study import StudyPlan, has_more, is_surplus, opened_study, suggest
from pipeline.tasks import Task

IN_A_NAME = ("strategy", "student_layers", "seed", "share", "pretrain")  # of `default_folder`


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
    alone: bool
    """No other command works on the study."""


def work_apart(job: Job, index: int, gpu: str | None = None) -> None:
    """What a worker process does. It ends with the command that started it.

    One that outlived a killed command would train what the next command trains too.

    Args:
        job: see there.
        index: of the worker.
        gpu: the only one that it is to see, as CUDA_VISIBLE_DEVICES names it; None = all.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it when it is first used
    Thread(target=_end_with_parent, daemon=True).start()
    place = Path("data/sweeps") / job.plan.name
    try:
        with locked_worker(place, index) if job.alone else nullcontext():
            work(job)
    except PipelineError as error:
        sys.exit(str(error))  # a line on standard error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def work(job: Job, on_trial: Callable[[], None] = lambda: None) -> None:
    """Make trials until there are none."""
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
