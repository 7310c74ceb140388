"""Step and epoch figures of a run, logged with DVCLive into its folder, and told to trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import TrainingError
from pipeline.training.loop import StepLog
from pipeline.training.tracking import tell_trackers

FOLDER = "dvclive"

Teller = Callable[[int, dict[str, float]], None]
"""(step, figures by name)"""


@dataclass(frozen=True, kw_only=True)
class Logbook:
    """Where the loop's callbacks write."""

    on_step: Callable[[StepLog], None]
    on_epoch: Callable[[dict[str, Any]], None]


@contextmanager
def logbook(
    folder: Path, *, resume_at: int | None, trackers: Sequence[Any] = ()
) -> Iterator[Logbook]:
    """Open `folder/dvclive`: losses, shares, learning rate, rows/s by step; scores by epoch.

    Args:
        folder: the run's.
        resume_at: the checkpoint's step; what was logged after it will be logged again.
        trackers: accelerate's, started; they get the same figures at the same steps.
    """
    if resume_at is not None:
        _forget_after(folder / FOLDER, resume_at)

    with _opened(folder / FOLDER, resume=resume_at is not None) as live:
        teller = _teller(live, trackers)
        yield Logbook(on_step=_step_logger(teller), on_epoch=_epoch_logger(teller))


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


def _teller(live: Any, trackers: Sequence[Any]) -> Teller:
    def tell(step: int, figures: dict[str, float]) -> None:
        live.step = step
        for name, value in figures.items():
            live.log_metric(name, value)
        live.make_summary()
        tell_trackers(trackers, step, figures)

    return tell


def _step_logger(tell: Teller) -> Callable[[StepLog], None]:
    import time

    before: list[tuple[float, int]] = []

    def log(entry: StepLog) -> None:
        now = time.monotonic()
        figures = {f"train/loss/{name}": value for name, value in entry.losses.items()}
        figures |= {f"train/share/{name}": value for name, value in shares(entry.losses).items()}
        figures["train/learning_rate"] = entry.learning_rate
        if before:
            then, rows = before[-1]
            figures["train/rows_per_second"] = (entry.rows - rows) / max(now - then, 1e-9)
        before.append((now, entry.rows))
        tell(entry.step, figures)

    return log


def _epoch_logger(tell: Teller) -> Callable[[dict[str, Any]], None]:
    def log(record: dict[str, Any]) -> None:
        figures = {
            f"eval/{split}/{name}": value
            for split, scores in record["scores"].items()
            for name, value in scores.items()
        }
        tell(record["step"], figures)

    return log
