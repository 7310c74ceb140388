"""Fine-tuning a teacher: the loop with the labels alone, into a plain Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.batches import Rows
from pipeline.data import Prepared
from pipeline.devices import pick_device
from pipeline.errors import ParamsError
from pipeline.losses import hard_label_loss
from pipeline.models.encode import encode
from pipeline.models.identity import identify_init
from pipeline.models.inputs import require_length
from pipeline.models.load import build_classifier, load_classifier, load_config, load_tokenizer
from pipeline.models.running import as_trained
from pipeline.models.trained import DEFAULT_MAX_LENGTH, TEACHER_RECORD, read_teacher_record
from pipeline.params import TeacherParams
from pipeline.tasks import Task
from pipeline.teacher.check import output_order, require_outputs
from pipeline.teacher.folds import (
    OutOfFold,
    fit_folds,
    require_folds,
    score_out_of_fold,
    write_out_of_fold,
)
from pipeline.training.checkpoints import has_checkpoint
from pipeline.training.evaluate import evaluate, predict, score_rows
from pipeline.training.loop import StepLog, Terms, train
from pipeline.training.runs import finished_record, identifying
from pipeline.training.session import Session, run_session
from pipeline.training.tracking import require_trackers
from pipeline.workers import join_workers


def fit_teacher(
    *,
    prepared: Prepared,
    out: Path,
    params: TeacherParams,
    sources: dict[str, str],
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[StepLog], None] = lambda _: None,
    on_fold_step: Callable[[int, StepLog], None] = lambda *_: None,
) -> dict[str, Any]:
    """Fine-tune a pretrained encoder on a task.

    Args:
        prepared: the data, from `pkd-data prepare`.
        out: the teacher's folder.
        params: every option; `init` is needed.
        sources: where each parameter came from, for the record.
        resume: go on from a checkpoint of the same run.
        overwrite: replace a teacher that came from other inputs.
        on_step: told of steps.
        on_fold_step: told of the steps of `params.folds`, with the number of the fold from 1.

    Returns:
        The record in `teacher.json`; with "existed": True when there was nothing to do.

    Raises:
        ParamsError, ModelError, OutputExistsError, BusyError, TrainingError.
    """
    if params.init is None:
        raise ParamsError(
            "No encoder to start from: pass --init MODEL (a hub id or a folder), or set "
            "teacher.init in params.yaml."
        )
    require_trackers(params.report_to)
    task, workers = prepared.task, join_workers(params.device)
    device = workers.device(params.device)
    if params.folds and workers.count > 1:
        raise ParamsError("--folds: fit the teacher with one process; its folds run in turn.")
    init = identify_init(params.init)
    identity = {
        "data": prepared.digest,
        "base": init.to_dict(),
        "task": task.to_dict(),
        "params": identifying(params),
    }
    if record := finished_record(out, TEACHER_RECORD, identity, overwrite=overwrite):
        return record | {"existed": True}
    require_length(params.max_length, load_config(params.init), params.init)
    tokenizer = load_tokenizer(params.init)
    examples = encode(prepared.table("train"), task, tokenizer, params.max_length)
    rows = Rows.from_examples(examples, tokenizer.pad_token_id).to(device)
    splits = {
        name: _rows(prepared, name, tokenizer, params.max_length, device)
        for name in task.validation_splits
    }
    folds = None
    if params.folds:
        require_folds(rows, params.folds)
        digests = examples["row_digest"].to_pylist()
        folds = _Folds(task, params, rows, digests, splits, on_fold_step)
    model = _new_model(task, params).to(device)
    session = Session(
        out=out,
        record_name=TEACHER_RECORD,
        identity=identity,
        task=task,
        params=params,
        device=device,
        model=model,
        tokenizer=tokenizer,
        rows=rows,
        splits=splits,
        terms=_label_terms(model),
        workers=workers,
        before=folds.fit if folds else None,
        more_files=folds.write if folds else None,
        described={
            "kind": "teacher",
            "base": init.to_dict(),
            "data_digest": prepared.digest,
            "max_length": params.max_length,
            "params": asdict(params) | {"init": init.name},
            "params_from": sources,
            "layers": model.config.num_hidden_layers,
        },
    )
    return run_session(session, resume=resume, on_step=on_step)


def _new_model(task: Task, params: TeacherParams) -> Any:
    assert params.init is not None
    return build_classifier(
        params.init, task, layers=None, seed=params.seed, dropout=params.dropout
    )


def _label_terms(model: Any) -> Terms:
    def terms(inputs: dict[str, Any], _: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        return {"ce": hard_label_loss(model(**inputs).logits, labels_B)}

    return terms


@dataclass
class _Folds:
    """The teachers of `--folds`: fitted as the teacher is, kept as their logits alone."""

    task: Task
    params: TeacherParams
    rows: Rows
    digests: list[bytes]
    splits: dict[str, Rows]
    on_step: Callable[[int, StepLog], None]
    found: OutOfFold | None = None

    def fit(self, state: Path) -> dict[str, Any]:
        """Fit all that are not finished in `state`; what the record tells of them."""
        count, seed = self.params.folds, self.params.seed
        self.found = fit_folds(self.rows, self.digests, count, seed, state, self._fit_one)
        scores = score_out_of_fold(self.task, self.found, self.rows, self.digests)
        return {"out_of_fold": {"folds": count, "digest": self.found.digest, "scores": scores}}

    def write(self, folder: Path) -> None:
        """Put the logits into the teacher's folder."""
        assert self.found
        write_out_of_fold(folder, self.found)

    def _fit_one(self, fold: int, rows: Rows, state: Path) -> Any:
        device = rows.ids_T.device
        model = _new_model(self.task, self.params).to(device)
        with as_trained(model, self.params, device):
            train(
                model,
                rows,
                _label_terms(model),
                lambda: evaluate(model, self.task, self.splits, self.params.eval_batch_size),
                self.params,
                state,
                device=device,
                resume=has_checkpoint(state),
                on_step=partial(self.on_step, fold),
                on_epoch=lambda _: None,
            )
        return model


def _rows(prepared: Prepared, split: str, tokenizer: Any, max_length: int, device: Any) -> Rows:
    examples = encode(prepared.table(split), prepared.task, tokenizer, max_length)
    return Rows.from_examples(examples, tokenizer.pad_token_id).to(device)


def score_teacher(
    prepared: Prepared,
    teacher: str,
    *,
    max_length: int | None,
    teacher_labels: str | None,
    device_name: str,
) -> dict[str, dict[str, float]]:
    """Scores of any fine-tuned classifier on the validation splits.

    Args:
        prepared: the data.
        teacher: folder or hub id.
        max_length: in tokens; None = the teacher's own record, else 128.
        teacher_labels: the task's label names in the order of the teacher's outputs.
        device_name: see `pick_device`.

    Raises:
        ModelError, TeacherRefusedError: not loadable, or outputs that are not the task's.
    """
    length = max_length or read_teacher_record(teacher).get("max_length") or DEFAULT_MAX_LENGTH
    task, device, tokenizer = prepared.task, pick_device(device_name), load_tokenizer(teacher)
    order = output_order(task, teacher_labels) or tuple(range(task.num_outputs))
    model = load_classifier(teacher).to(device)
    require_outputs(teacher, model.config, task, named=teacher_labels is not None)
    require_length(length, model.config, teacher)
    scores = {}
    for name in task.validation_splits:
        rows = _rows(prepared, name, tokenizer, length, device)
        logits = predict(model, rows, TeacherParams().eval_batch_size)[:, list(order)]
        scores[name] = score_rows(task, logits, rows)
    return scores
