"""One training run from model to published folder: what fitting a teacher and a student share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.batches import Rows
from pipeline.devices import pick_precision
from pipeline.files import naming_full_disk, write_json
from pipeline.models.running import as_trained
from pipeline.models.sharing import unshared
from pipeline.params import FitParams
from pipeline.tasks import Task
from pipeline.training.checkpoints import Progress, checkpoint_step
from pipeline.training.evaluate import evaluate
from pipeline.training.live import Logbook, logbook, no_logbook
from pipeline.training.loop import StepLog, Terms, train, usable_rows
from pipeline.training.runs import Run, describe_result, training_run
from pipeline.training.tracking import TrackedRun, tracked
from pipeline.workers import Workers

BEFORE = "before"  # checkpoints of what comes before the run, in its state folder


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything a run needs, settled and loaded."""

    out: Path
    """The folder that the run becomes."""
    record_name: str
    """File in it that holds the record."""
    identity: dict[str, Any]
    """Inputs and parameters; a checkpoint of another identity is not continued."""
    task: Task
    params: FitParams
    device: torch.device
    model: Any
    tokenizer: Any
    rows: Rows
    """Training rows, on `device`."""
    splits: Mapping[str, Rows]
    """Validation rows by split, on `device`."""
    terms: Terms
    described: dict[str, Any]
    """The part of the record that is known before training."""
    before: Callable[[Path], dict[str, Any]] | None = None
    """Prepares the model before training and tells the record of it; called with a folder for its
    checkpoints, again after a resume."""
    more_files: Callable[[Path], None] | None = None
    """Writes what else belongs into the finished folder."""
    card: Callable[[dict[str, Any]], str] | None = None
    """Makes a model card of the record."""
    workers: Workers = field(default_factory=Workers)
    """Processes of this run."""


def run_session(
    session: Session, *, resume: bool, on_step: Callable[[StepLog], None]
) -> dict[str, Any]:
    """Train, save as a plain Hugging Face folder with its record, publish it whole.

    Raises:
        TrainingError, BusyError: see `pipeline.training.loop.train` and `pipeline.locks.locked`.
    """
    s = session
    with training_run(s.out, s.identity, resume=resume, workers=s.workers) as run:
        before, progress = _trained(s, run, on_step)
        if not s.workers.leads:
            return s.described
        with naming_full_disk(run.folder):
            unshared(s.model).save_pretrained(run.folder)
            s.tokenizer.save_pretrained(run.folder)
            if s.more_files:
                s.more_files(run.folder)
        outcome = _outcome(s, progress) | describe_result(s.model, run.folder)
        record = s.described | before | outcome
        write_json(run.folder / s.record_name, record)
        if s.card:
            (run.folder / "README.md").write_text(s.card(record), "utf-8")
    return record


def _trained(
    s: Session, run: Run, on_step: Callable[[StepLog], None]
) -> tuple[dict[str, Any], Progress]:
    """What came before, and the training; the first process keeps the log."""
    resume_at = checkpoint_step(run.state) if run.resumed else None
    with _log_of(s, run, resume_at) if s.workers.leads else no_logbook() as log:
        before = s.before(run.state / BEFORE) if s.before else {}
        return before, _train(s, run, log, on_step)


@contextmanager
def _log_of(s: Session, run: Run, resume_at: int | None) -> Iterator[Logbook]:
    told = TrackedRun(
        name=s.out.name,
        folder=run.folder,
        state=run.state,
        settings={"task": s.task.name} | s.described["params"],
        resume_at=resume_at,
        on_cpu=s.device.type == "cpu",
    )
    with (
        tracked(s.params.report_to, told) as trackers,
        logbook(run.folder, resume_at=resume_at, trackers=trackers) as log,
    ):
        yield log


def _train(s: Session, run: Run, log: Logbook, on_step: Callable[[StepLog], None]) -> Progress:
    def told(entry: StepLog) -> None:
        log.on_step(entry)
        on_step(entry)

    with as_trained(s.model, s.params, s.device):
        return train(
            s.model,
            s.rows,
            s.terms,
            lambda: evaluate(s.model, s.task, s.splits, s.params.eval_batch_size, s.workers),
            s.params,
            run.state,
            device=s.device,
            resume=run.resumed,
            on_step=told,
            on_epoch=log.on_epoch,
            workers=s.workers,
        )


def _outcome(s: Session, progress: Progress) -> dict[str, Any]:
    """The part of the record that training decides."""
    used = len(usable_rows(s.rows, s.terms))
    return {
        "format": 1,
        "identity": s.identity,
        "task": s.task.name,
        "text_columns": list(s.task.text_columns),
        "label_names": list(s.task.label_names),
        "metric": s.task.metrics[0],
        "scores": progress.history[progress.best_epoch - 1]["scores"],
        "best_epoch": progress.best_epoch,
        "history": progress.history,
        "seconds": progress.seconds,
        "rows_per_second": used * s.params.epochs / progress.seconds,
        "train_rows": len(s.rows),
        "labelled_rows": int(s.rows.labelled_N.sum()),
        "device": s.device.type,
        "precision": pick_precision(s.params.precision, s.device),
    }
