"""Run records as frozen dataclasses: what students, teachers and builds wrote of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.report.fields import Scores


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of a run's history."""

    epoch: int
    step: int
    losses: Mapping[str, float]
    """Weighted terms (ce, kd, pt) and total: means over the epoch."""
    scores: Scores
    """Split to metric to value in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class TeacherOf:
    """What a student's record says of its teacher."""

    name: str
    digest: str
    parameters: int | None
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class StudentRun:
    """One trained student."""

    folder: Path
    name: str
    task: str
    strategy: str
    depth: int
    """Student layers."""
    block_passes: int
    """Blocks that an input goes through; more than `depth` where layers are shared."""
    seed: int
    metric: str
    split: str
    """The validation split that chose the best epoch."""
    scores: Scores
    layer_map: tuple[tuple[int, int], ...]
    """(student layer, teacher layer), counted from 1."""
    teacher_layers: int
    teacher: TeacherOf
    cache_name: str
    cache_id: str
    settings: Mapping[str, Any]
    """Whatever decides a result apart from the seed: parameters, digests of init and teacher."""
    history: tuple[Epoch, ...]
    train_rows: int | None
    labelled_rows: int | None
    """Of the training rows; None where a record does not say."""
    parameters: int
    size_bytes: int
    seconds: float
    """Training time, that of a pretraining included."""
    device: str
    record: Mapping[str, Any]
    """All of it, as it was read."""

    @property
    def score(self) -> float:
        """The main metric of the best epoch."""
        return self.scores[self.split][self.metric]

    @property
    def teacher_score(self) -> float | None:
        """The teacher's main metric on the same split, when recorded."""
        return self.teacher.scores.get(self.split, {}).get(self.metric)

    @property
    def kept(self) -> float | None:
        """Share of the teacher's score, 1.0 = all; None where the teacher's is not positive."""
        reference = self.teacher_score
        return self.score / reference if reference is not None and reference > 0 else None

    @property
    def unlabelled_rows(self) -> int:
        """Training rows without a label, as far as is known."""
        if self.train_rows is None or self.labelled_rows is None:
            return 0
        return self.train_rows - self.labelled_rows

    @property
    def asks_teacher(self) -> bool:
        """Whether this student needs teacher outputs; fine-tuning does not."""
        return self.strategy != "finetune"


@dataclass(frozen=True, kw_only=True)
class TeacherRun:
    """A teacher folder at hand."""

    folder: Path
    scores: Scores
    parameters: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CacheBuild:
    """Measured cost of building a cache; seconds of wall time."""

    seconds: float
    train_pass_seconds: float
    """One forward pass of the teacher over the training rows."""
    rows_per_second: float | None
    size_bytes: int | None
    device: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A folder that is no readable run."""

    name: str
    reason: str
