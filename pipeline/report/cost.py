"""What the cache costs and saves, against running the teacher next to every student. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.records import CacheBuild, StudentRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Teacher time of a set of students, in seconds on the device that built the cache."""

    build_seconds: float
    pass_seconds: float
    """One teacher pass over the training rows."""
    saved_seconds: tuple[float, ...]
    """Per distilled student: epochs x pass_seconds."""
    training_seconds: float
    """What the training of these students took by itself."""
    device: str
    """Where the teacher ran."""
    student_devices: tuple[str, ...]
    """Where the students trained."""

    @property
    def comparable(self) -> bool:
        """Whether teacher time and training time are of one kind of device and may be added."""
        return self.student_devices == (self.device,)

    @property
    def students(self) -> int:
        """Students that learned from the teacher."""
        return len(self.saved_seconds)

    @property
    def live_seconds(self) -> float:
        """Teacher time of the whole set without a cache."""
        return sum(self.saved_seconds)

    @property
    def mean_saved_seconds(self) -> float:
        """Teacher time that the average student saves."""
        return self.live_seconds / self.students

    @property
    def exact_break_even(self) -> float:
        """Students, as a fraction, whose saved time equals the build; inf if nothing is saved."""
        saved = self.mean_saved_seconds
        return self.build_seconds / saved if saved > 0 else math.inf

    @property
    def break_even(self) -> int | None:
        """The first student after which the cache has paid for itself; None if never."""
        exact = self.exact_break_even
        return None if math.isinf(exact) else max(1, math.ceil(exact))


def cost_of(build: CacheBuild, runs: Sequence[StudentRun]) -> Cost | None:
    """Cost of a task's runs with one cache; None when no run asked the teacher for anything.

    Live distillation runs the teacher over the training rows once per epoch and student; the cache
    runs it once. Fine-tuned students ask nothing and are not counted.
    """
    distilled = [run for run in runs if run.asks_teacher and run.history]
    if not distilled:
        return None
    return Cost(
        build_seconds=build.seconds,
        pass_seconds=build.train_pass_seconds,
        saved_seconds=tuple(len(run.history) * build.train_pass_seconds for run in distilled),
        training_seconds=sum(run.seconds for run in distilled),
        device=build.device,
        student_devices=tuple(sorted({run.device for run in distilled})),
    )
