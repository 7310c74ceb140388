"""The trackers of `--report-to`, through accelerate's: what DVCLive logs, they get too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError, TrainingError
from pipeline.files import read_json, write_json

PROJECT = "pkd"  # of wandb and mlflow, where WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME say nothing
TENSORBOARD_FOLDER = "tensorboard"
RUN_IDS = "trackers.json"  # in a run's state folder: what a resumed run goes on with

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run before its first step."""

    name: str
    folder: Path
    """The partial folder of the run; TensorBoard's files become part of it."""
    state: Path
    """Where what a resumed run needs is kept."""
    settings: Mapping[str, Any]
    """Shown as the run's hyperparameters."""
    resume_at: int | None
    """The step of the checkpoint that the run goes on from."""
    on_cpu: bool


def trackers_of(report_to: str) -> tuple[str, ...]:
    """The trackers that a `report_to` names, each once."""
    return tuple(dict.fromkeys(name for name in report_to.split(",") if name != "none"))


def require_trackers(report_to: str) -> None:
    """Refuse a tracker whose package is not installed; raises ParamsError that says what to do."""
    if not (names := trackers_of(report_to)):
        return
    from accelerate.utils import is_mlflow_available, is_tensorboard_available, is_wandb_available

    available = {
        "tensorboard": is_tensorboard_available,
        "wandb": is_wandb_available,
        "mlflow": is_mlflow_available,
    }
    for name in names:
        if not available[name]():
            raise ParamsError(
                f"--report-to {name}: the package is not installed. Install it with "
                f"`pip install 'pkd[{name}]'`, or leave {name} out; DVCLive logs every run."
            )


@contextmanager
def tracked(report_to: str, run: TrackedRun) -> Iterator[list[Any]]:
    """Yield accelerate's trackers of a run, started; finish them when the block ends.

    Args:
        report_to: see `FitParams.report_to`; with "none" the list is empty.
        run: what they are told.

    Raises:
        ParamsError: a package is missing.
        TrainingError: a tracker did not start, such as one without a login or a server.
    """
    require_trackers(report_to)
    if names := trackers_of(report_to):
        from accelerate import PartialState

        PartialState(cpu=run.on_cpu)  # else the trackers would make one, on the first GPU
    started: list[Any] = []
    try:
        for name in names:
            started.append(_started(name, run))  # noqa: PERF401 - the next one may fail
        yield started
    except BaseException:
        if "mlflow" in [tracker.name for tracker in started]:
            import mlflow

            mlflow.end_run("FAILED")  # `finish` would call it finished
        raise
    finally:
        for tracker in started:
            tracker.finish()


def tell_trackers(trackers: Sequence[Any], step: int, figures: Values) -> None:
    """Log figures by name; raises TrainingError when one cannot, such as without its server."""
    for tracker in trackers:
        try:
            tracker.log(dict(figures), step=step)
        except Exception as error:
            raise TrainingError(
                f"--report-to {tracker.name}: step {step} could not be logged ({_reason(error)}). "
                "Run the same command again with --resume once it can, or without the tracker."
            ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _started(name: str, run: TrackedRun) -> Any:
    known = _run_ids(run)
    tracker = _make(name, run, known.get(name))
    try:
        tracker.start()
        if name not in known and (name != "tensorboard" or run.resume_at is None):
            tracker.store_init_configuration(_plain(run.settings))
    except Exception as error:
        raise TrainingError(
            f"--report-to {name}: it did not start ({_reason(error)}). Mend that, or leave it "
            "out; nothing was trained."
        ) from error
    if run_id := _run_id(name, tracker):
        write_json(run.state / RUN_IDS, known | {name: run_id})
    return tracker


def _make(name: str, run: TrackedRun, run_id: str | None) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        purge = None if run.resume_at is None else run.resume_at + 1
        return TensorBoardTracker(TENSORBOARD_FOLDER, run.folder, purge_step=purge)
    if name == "mlflow":
        return MLflowTracker(PROJECT, run_id=run_id, run_name=run.name)
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return WandBTracker(project, name=run.name, id=run_id, resume="allow" if run_id else None)


def _run_ids(run: TrackedRun) -> dict[str, str]:
    path = run.state / RUN_IDS
    return dict(read_json(path)) if run.resume_at is not None and path.is_file() else {}


def _run_id(name: str, tracker: Any) -> str | None:
    match name:
        case "mlflow":
            return str(tracker.tracker.info.run_id)
        case "wandb":
            return str(tracker.tracker.id)
    return None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values that every tracker takes: TensorBoard has no null and no list."""
    kept = (bool, int, float, str)
    return {key: v if isinstance(v, kept) else str(v) for key, v in settings.items()}
