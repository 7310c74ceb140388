"""The ways to train a student that are compared: each is a real training loop.

All but TextBrewer's run `pipeline.training.loop.train` itself, with other targets or other batches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.lengths import LONGEST, all_lengths, rows_of
from benchmarks.setting import Setting
from benchmarks.shapes import Shape
from benchmarks.turns import Loop
from pipeline.batches import Rows, training_batches
from pipeline.losses import Objective
from pipeline.models.last_block import last_block_at_cls
from pipeline.models.running import as_trained
from pipeline.params import StudentParams
from pipeline.strategies import make_strategy
from pipeline.strategies.base import Shapes, Strategy
from pipeline.student.recipe import objective_of
from pipeline.student.targets import CachedTargets, Targets
from pipeline.student.terms import DistillationTerms
from pipeline.teacher.forward import LiveTargets, Teacher
from pipeline.training.loop import train


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to train a student."""

    text: str
    """For people."""
    strategy: Literal["finetune", "kd", "skip"]
    teacher: Literal["none", "cache", "live", "textbrewer"]
    batches: Literal["ours", "random", "padded"] = "ours"
    """ours: grouped by length; random: padded to the longest row; padded: ours padded to 128."""
    float32: bool = False
    """Else the precision of the run."""
    whole: bool = True
    """The models as `transformers` runs them; else their last blocks at [CLS] alone."""
    dropout: float = 0.1
    packed: bool = False


WAYS = {
    "finetune": Way(text="plain fine-tuning", strategy="finetune", teacher="none"),
    "finetune-cls": Way(
        text="fine-tuning, last block at [CLS]", strategy="finetune", teacher="none", whole=False
    ),
    "cache-kd": Way(text="from the cache, kd", strategy="kd", teacher="cache", whole=False),
    "cache-skip": Way(text="from the cache, skip", strategy="skip", teacher="cache", whole=False),
    "cache-skip-float32": Way(
        text="from the cache, skip, float32", strategy="skip", teacher="cache", float32=True,
        whole=False,
    ),
    "cache-skip-dry": Way(
        text="from the cache, skip, no dropout", strategy="skip", teacher="cache", whole=False,
        dropout=0.0,
    ),
    "cache-skip-packed": Way(
        text="the same, packed", strategy="skip", teacher="cache", whole=False, dropout=0.0,
        packed=True,
    ),
    "live-kd": Way(text="live teacher, kd", strategy="kd", teacher="live"),
    "live-skip": Way(text="live teacher, skip", strategy="skip", teacher="live"),
    "live-skip-cls": Way(
        text="live teacher, skip, last blocks at [CLS]", strategy="skip", teacher="live",
        whole=False,
    ),
    "textbrewer": Way(text="TextBrewer, same batches", strategy="skip", teacher="textbrewer"),
    "textbrewer-random": Way(
        text="TextBrewer, random batches", strategy="skip", teacher="textbrewer", batches="random"
    ),
    "2019": Way(
        text="the 2019 way: cached, padded to 128, float32", strategy="skip", teacher="cache",
        batches="padded", float32=True,
    ),
}  # fmt: skip


class PaddedRows(Rows):
    """Every batch is as long as the longest input may be."""

    def batch(self, rows_B: Tensor, length: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Pad to `LONGEST` tokens."""
        return super().batch(rows_B, LONGEST)


class PacedTerms(DistillationTerms):
    """Tells of every step before it is taken."""

    wait: Callable[[], None]

    def prefetch(self, rows_B: Tensor) -> None:
        """Called by the training loop before every step."""
        self.wait()
        super().prefetch(rows_B)


@dataclass(frozen=True, kw_only=True)
class Ring:
    """What the contenders of one case share."""

    task: str
    lengths_N: Tensor
    """Of the training rows."""
    teacher: Shape
    student: Shape
    batch_size: int
    device: torch.device
    precision: str
    state: Path
    """A folder; nothing is left in it."""

    @cached_property
    def rows(self) -> Rows:
        """Training rows on the device."""
        return rows_of(self.lengths_N, self.student.vocabulary).to(self.device)

    @cached_property
    def teacher_model(self) -> Any:
        """In eval mode, one for all contenders that run it."""
        return self.teacher.classifier(self.device).eval()

    def params(self, way: Way) -> StudentParams:
        """Defaults, but for what the case says."""
        return StudentParams(
            strategy=way.strategy, student_layers=self.student.layers, batch_size=self.batch_size,
            epochs=1, precision="float32" if way.float32 else self.precision, project=True,
            packed=way.packed,
        )  # fmt: skip

    def strategy(self, params: StudentParams) -> Strategy:
        """What [CLS] is to match."""
        shapes = Shapes(
            teacher_layers=self.teacher.layers, student_layers=self.student.layers,
            teacher_hidden=self.teacher.hidden, student_hidden=self.student.hidden,
            rows=len(self.lengths_N), classes=2,
        )  # fmt: skip
        return make_strategy(shapes, params)

    def cached(self, layers: tuple[int, ...]) -> CachedTargets:
        """What `load_targets` gives of a float16 cache of these rows."""
        count, hidden = len(self.lengths_N), self.teacher.hidden
        cls_NLH = torch.empty((count, len(layers), hidden), dtype=torch.float16, device=self.device)
        logits_NK = torch.randn((count, 2), device=self.device)
        return CachedTargets(logits_NK, cls_NLH.normal_())

    def live(self, layers: tuple[int, ...], way: Way) -> LiveTargets:
        """The teacher in the loop: eval mode, no gradients, the student's precision."""
        teacher = Teacher(
            name="random", model=self.teacher_model, tokenizer=None, device=self.device,
            compute=self.params(way).precision, output_order=(0, 1),
        )  # fmt: skip
        return LiveTargets(teacher, layers) if way.whole else LiveAtCls(teacher, layers)

    def targets(self, way: Way, params: StudentParams, objective: Objective) -> Targets | None:
        """Where a step finds the teacher's outputs."""
        layers = self.strategy(params).teacher_layers if objective.beta else ()
        if way.teacher == "none":
            return None
        if way.teacher == "cache":
            return self.cached(layers)
        return self.live(layers, way)


@contextmanager
def ring_of(
    setting: Setting,
    task: str,
    lengths_N: Tensor,
    teacher: Shape,
    student: Shape,
    batch_size: int,
) -> Iterator[Ring]:
    """A case on the device and in the precision of a run; its folder goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Ring(
            task=task, lengths_N=lengths_N, teacher=teacher, student=student,
            batch_size=batch_size, device=setting.device, precision=setting.precision,
            state=Path(folder),
        )  # fmt: skip


@dataclass(frozen=True)
class LiveAtCls(LiveTargets):
    """A live teacher that computes its last block at [CLS] alone, too."""

    def __call__(self, rows_B: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As `LiveTargets`."""
        with last_block_at_cls(self.teacher.model):
            return super().__call__(rows_B, inputs)


def as_run_by(ring: Ring, way: Way, model: Any) -> AbstractContextManager[None]:
    """The whole model, or as `pkd-student fit` runs it."""
    return nullcontext() if way.whole else as_trained(model, ring.params(way), ring.device)


def terms_of(ring: Ring, way: Way, model: Any) -> PacedTerms:
    """A forward pass and its losses."""
    params = ring.params(way)
    strategy = ring.strategy(params)
    objective = objective_of(params, strategy)
    return PacedTerms(model, objective, ring.targets(way, params, objective), strategy)


def loop_of(ring: Ring, way: Way) -> Loop:
    """The training loop of a way; raises ModuleNotFoundError where TextBrewer is not installed."""
    if way.teacher == "textbrewer":
        from benchmarks.textbrewer_loop import textbrewer_loop

        return textbrewer_loop(ring, way, batches_of(ring, way))

    def loop(wait: Callable[[], None]) -> None:
        model = ring.student.classifier(ring.device, way.dropout).train()
        terms = terms_of(ring, way, model)
        terms.wait = wait

        def evaluate() -> dict[str, dict[str, float]]:
            wait()  # the last step of the epoch has ended
            return {}

        rows = PaddedRows(**vars(ring.rows)) if way.batches == "padded" else ring.rows
        with as_run_by(ring, way, model):
            train(
                model, rows, terms, evaluate, ring.params(way), ring.state, device=ring.device,
                resume=False, on_step=lambda _: None, on_epoch=lambda _: None,
            )  # fmt: skip

    return loop


def batches_of(ring: Ring, way: Way) -> tuple[Rows, list[Tensor]]:
    """Rows and batches of a loop that is not ours: those of `train`, or random ones of the task."""
    if way.batches == "ours":
        return ring.rows, training_batches(ring.lengths_N, ring.batch_size, seed=0, epoch=1)
    rows = rows_of(all_lengths(ring.task), ring.student.vocabulary).to(ring.device)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows, list(order.split(ring.batch_size))


def spread_lengths(lengths_N: Tensor, batch_size: int, count: int) -> Tensor:
    """Lengths of the rows of `count` batches that stand for an epoch's.

    The batches of an epoch are put in order of their length, and every so-many-th is taken. At most
    50 of them are again the batches that `training_batches` makes of these rows.
    """
    batches = training_batches(lengths_N, batch_size, seed=0, epoch=1)
    full = [lengths_N[batch] for batch in batches if len(batch) == batch_size]
    full.sort(key=lambda lengths: int(lengths.sum()))
    places = [(2 * number + 1) * len(full) // (2 * count) for number in range(count)]
    return torch.cat([full[place] for place in places])
