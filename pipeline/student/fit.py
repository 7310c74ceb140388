"""Stage two: train a student from a cache alone.

No teacher is loaded, no file of one opened, but with `--init-layers teacher`, which starts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.batches import Rows
from pipeline.metrics import chance_level
from pipeline.models.identity import identify_init
from pipeline.models.inputs import require_readable
from pipeline.models.load import load_tokenizer
from pipeline.models.sharing import expanded_parameters
from pipeline.params import StudentParams
from pipeline.progress import Tick, silent
from pipeline.store.reader import TeacherCache
from pipeline.strategies import AUTO
from pipeline.student.auto_layers import Choice, choose, decided, undecided
from pipeline.student.card import student_card
from pipeline.student.init import Start, build_student
from pipeline.student.logits import save_validation_logits
from pipeline.student.ptp import Lesson, make_lesson, pretrain, take_over, task_of
from pipeline.student.recipe import (
    Recipe,
    default_folder,
    describe_recipe,
    identity_of,
    require_tokenizer,
    settle,
)
from pipeline.student.targets import Targets, controlled, controlled_logits, load_targets
from pipeline.student.teachers import other_logits, require_teachers, several_teachers
from pipeline.student.terms import DistillationTerms
from pipeline.tasks import Task
from pipeline.training.loop import StepLog
from pipeline.training.runs import finished_record
from pipeline.training.session import Session, run_session
from pipeline.training.tracking import require_trackers
from pipeline.workers import Workers, join_workers

RUN_RECORD = "run.json"


def fit_student(
    *,
    cache_path: Path | str | TeacherCache,
    out: Path | None,
    params: StudentParams,
    sources: dict[str, str],
    resume: bool = False,
    overwrite: bool = False,
    others: Sequence[Path | str] = (),
    on_cache: Callable[[TeacherCache], None] = lambda _: None,
    on_probe: Tick = silent,
    on_choice: Callable[[Choice], None] = lambda _: None,
    on_step: Callable[[StepLog], None] = lambda _: None,
    on_lesson: Callable[[Lesson], None] = lambda _: None,
    on_pretrain_step: Callable[[StepLog], None] = lambda _: None,
) -> tuple[Path, dict[str, Any]]:
    """Train one student.

    Args:
        cache_path: a finished cache: a folder, any fsspec URL, or an opened one.
        out: the student's folder; None = see `default_folder`.
        params: every option.
        sources: where each parameter came from, for the record.
        resume: go on from a checkpoint of the same run.
        overwrite: replace a student that came from other inputs.
        others: caches of further teachers of the same rows; their logits are taken, and the [CLS]
            vectors of the first cache alone.
        on_cache: told of the opened cache.
        on_probe: told of the probes of strategy auto.
        on_choice: told of the layers that they choose.
        on_step: told of steps.
        on_lesson: told of the labels of `params.pretrain`, before they are learned.
        on_pretrain_step: told of its steps.

    Returns:
        The folder, and the record in its `run.json`; with "existed": True when there was nothing to
        do.

    Raises:
        CacheError and its kin, ParamsError, ModelError, OutputExistsError, BusyError,
        TrainingError.
    """
    require_trackers(params.report_to)
    require_teachers(params, 1 + len(others))
    cache = cache_path if isinstance(cache_path, TeacherCache) else TeacherCache.open(cache_path)
    cache.require_complete()
    on_cache(cache)
    manifest = cache.manifest
    recipe = settle(manifest, undecided(params), cache.text)
    out = out or default_folder(recipe.task, params)
    workers = join_workers(params.device)
    device = workers.device(params.device)
    init = identify_init(recipe.start.init)
    more = [TeacherCache.open(path) for path in others]
    identity = identity_of(manifest, init, params)
    if more:
        identity["other_caches"] = [each.manifest.content_digest for each in more]
    if record := finished_record(out, RUN_RECORD, identity, overwrite=overwrite):
        return out, record | {"existed": True}
    choice = None
    if params.strategy == AUTO:
        choice = choose(cache, params, on_probe)
        on_choice(choice)
        recipe = settle(manifest, decided(params, choice), cache.text)
    tokenizer = load_tokenizer(recipe.start.init)
    require_tokenizer(manifest, tokenizer, recipe.start.init)
    model = new_student(recipe.start, recipe.task, params).to(device)
    rows = load_rows(cache, "train", device)
    splits = {name: load_rows(cache, name, device) for name in recipe.task.validation_splits}
    for name, each in {"train": rows, **splits}.items():
        require_readable(each, model.config, recipe.start.init, f"{cache.text}, {name}")
    targets = _targets(cache, more, recipe, params, rows)
    before = None
    if params.pretrain != "none":
        lesson = make_lesson(cache, params, rows, splits)
        on_lesson(lesson)
        before = partial(_pretrained, model, recipe, lesson, params, on_pretrain_step, workers)
    ids = {name: cache.examples(name)["example_id"].to_pylist() for name in splits}
    session = Session(
        out=out,
        record_name=RUN_RECORD,
        identity=identity,
        task=recipe.task,
        params=params,
        device=device,
        model=model,
        tokenizer=tokenizer,
        rows=rows,
        splits=splits,
        terms=DistillationTerms(model, recipe.objective, targets, recipe.strategy),
        described=describe_recipe(cache, recipe, params, sources, init)
        | {"name": out.name, "parameters_expanded": expanded_parameters(model)}
        | {"probes": choice.to_dict() if choice else None}
        | {"chance": _chance(recipe.task, next(iter(splits.values())))}
        | {"other_teachers": [_named(each.manifest.teacher) for each in more]},
        before=before,
        more_files=partial(save_validation_logits, model, splits, ids, params.eval_batch_size),
        card=student_card,
        workers=workers,
    )
    return out, run_session(session, resume=resume, on_step=on_step)


def _named(teacher: dict[str, Any]) -> dict[str, Any]:
    return {key: teacher[key] for key in ("name", "digest")}


def _chance(task: Task, rows: Rows) -> dict[str, Any]:
    """What a student that has learned nothing scores on validation rows."""
    labels = rows.labels_N[rows.labelled_N].cpu().numpy()
    metric, level = chance_level(task, labels)
    return {"metric": metric, "score": level}


def new_student(start: Start, task: Task, params: StudentParams) -> Any:
    """A student before distillation; after `--pretrain` its head is a new one."""
    new_head = params.pretrain != "none"
    return build_student(start, task, seed=params.seed, dropout=params.dropout, new_head=new_head)


def _pretrained(
    model: Any,
    recipe: Recipe,
    lesson: Lesson,
    params: StudentParams,
    on_step: Callable[[StepLog], None],
    workers: Workers,
    state: Path,
) -> dict[str, Any]:
    """Let a student of another head learn the lesson, and `model` start from its encoder."""
    task, device = task_of(lesson.kind, recipe.task), lesson.train.ids_T.device
    pupil = new_student(recipe.start, task, params).to(device)
    record = pretrain(
        pupil, lesson, task, params, state, device=device, on_step=on_step, workers=workers
    )
    take_over(model, pupil)
    return {"pretrain": record}


def _targets(
    cache: TeacherCache,
    others: Sequence[TeacherCache],
    recipe: Recipe,
    params: StudentParams,
    rows: Rows,
) -> Targets | None:
    """What the strategy reads of the teacher, and no more; None for `finetune`."""
    layers = recipe.strategy.teacher_layers if recipe.objective.beta > 0 else ()
    if not layers and recipe.objective.alpha == 0:
        return None
    targets = load_targets(cache, "train", layers, rows.labels_N.device)
    labels_N, control = rows.labels_N, params.teacher_outputs
    targets = controlled(targets, labels_N, control, params.seed)
    if not others:
        return targets
    logits = [
        controlled_logits(logits_NK, labels_N, control, params.seed)
        for logits_NK in other_logits(cache, others, "train", labels_N.device)
    ]
    return several_teachers(targets, logits, params)


def load_rows(cache: TeacherCache, split: str, device: torch.device) -> Rows:
    """Tokens and labels of a split, resident on `device`."""
    pad_id = cache.manifest.tokenizer["pad_id"]
    return Rows.from_examples(cache.examples(split), pad_id).to(device)
