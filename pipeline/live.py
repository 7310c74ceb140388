"""Step and epoch figures of a run, logged with DVCLive into the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import TrainingError
from pipeline.training import StepLog

FOLDER = "dvclive"


@dataclass(frozen=True, kw_only=True)
class Logbook:
    """Where the loop's callbacks write."""

    on_step: Callable[[StepLog], None]
    on_epoch: Callable[[dict[str, Any]], None]


@contextmanager
def logbook(folder: Path, *, resume_at: int | None) -> Iterator[Logbook]:
    """Open `folder/dvclive`: losses, shares, learning rate, rows/s by step; scores by epoch.

    Args:
        folder: the run's.
        resume_at: the checkpoint's step; what was logged after it will be logged again.
    """
    if resume_at is not None:
        _forget_after(folder / FOLDER, resume_at)

    with _opened(folder / FOLDER, resume=resume_at is not None) as live:
        yield Logbook(on_step=_step_logger(live), on_epoch=_epoch_logger(live))


@contextmanager
def no_logbook() -> Iterator[Logbook]:
    """Of a process that leaves the log to another."""
    yield Logbook(on_step=lambda _: None, on_epoch=lambda _: None)


def _opened(folder: Path, *, resume: bool) -> Any:
    from dvclive import Live
    from scmrepo.exceptions import SCMError

    try:
        # our own dvc.yaml declares metrics and plots; a stage is no experiment of DVCLive's
        return Live(dir=str(folder), resume=resume, save_dvc_exp=False, dvcyaml=None, report=None)
    except SCMError as error:
        raise TrainingError(
            f"DVCLive cannot log into this git repository: {error}. Where there is no commit yet, "
            "make one: `git add --all && git commit -m start`."
        ) from None


def _forget_after(folder: Path, step: int) -> None:
    for path in folder.rglob("*.tsv"):
        header, *lines = path.read_text("utf-8").splitlines(keepends=True)
        place = header.rstrip("\n").split("\t").index("step")
        kept = [line for line in lines if int(line.split("\t")[place]) <= step]
        path.write_text("".join([header, *kept]), "utf-8")


def shares(losses: dict[str, float]) -> dict[str, float]:
    """Share of each weighted term in the total, in [0, 1]; {} when the total is 0."""
    total = losses["total"]
    return {k: v / total for k, v in losses.items() if k != "total"} if total else {}


def _step_logger(live: Any) -> Callable[[StepLog], None]:
    import time

    before: list[tuple[float, int]] = []

    def log(entry: StepLog) -> None:
        now = time.monotonic()
        live.step = entry.step
        for name, value in entry.losses.items():
            live.log_metric(f"train/loss/{name}", value)
        for name, value in shares(entry.losses).items():
            live.log_metric(f"train/share/{name}", value)
        live.log_metric("train/learning_rate", entry.learning_rate)
        if before:
            then, rows = before[-1]
            live.log_metric("train/rows_per_second", (entry.rows - rows) / max(now - then, 1e-9))
        before.append((now, entry.rows))
        live.make_summary()

    return log


def _epoch_logger(live: Any) -> Callable[[dict[str, Any]], None]:
    def log(record: dict[str, Any]) -> None:
        live.step = record["step"]
        for split, scores in record["scores"].items():
            for name, value in scores.items():
                live.log_metric(f"eval/{split}/{name}", value)
        live.make_summary()

    return log
