"""What a strategy is: which teacher layers it reads, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import CacheMismatchError
from pipeline.params import StudentParams


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What a strategy is built for."""

    teacher_layers: int
    """N."""
    student_layers: int
    """M."""
    teacher_hidden: int
    student_hidden: int
    rows: int
    """Of the training split."""
    classes: int
    """1 for regression."""
    labelled_rows: int | None = None
    """Of the training split; None = not known."""


class Matched(NamedTuple):
    """A batch as a strategy sees it."""

    student_BMH: Tensor
    """[CLS] of student layers 1..M, float32, with gradient."""
    teacher_BLH: Tensor
    """[CLS] of the strategy's `teacher_layers`, float32."""
    rows_B: Tensor
    """Row numbers in the training split."""
    labels_B: Tensor
    """int64 with -100, or float32 with NaN, where unlabelled."""


class Strategy(nn.Module):
    """What the student's [CLS] vectors are to match: the term that beta weighs.

    A strategy of your own is a subclass that sets `teacher_layers` and defines `forward`; name it
    on the command line: `--strategy my_module:Mine`. Its parameters (if any) are trained with the
    student and its buffers are kept in checkpoints; neither is part of the finished student.

    Shapes: B rows of a batch, M student layers, L teacher layers it reads, H hidden size.
    """

    teacher_layers: tuple[int, ...] = ()
    """Teacher layers (from 1) that it reads, in the order in which `forward` gets them. Only these
    are loaded; () = none, and `forward` is not called."""
    pairs: tuple[tuple[int, int], ...] = ()
    """(student layer, teacher layer) where the strategy is a fixed map; for records and reports."""

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__()
        self.shapes, self.params = shapes, params
        self.projection = self._make_projection()

    def _make_projection(self) -> nn.Module:
        """The student's width to the teacher's: learnt where they differ, else nothing."""
        if self.shapes.student_hidden == self.shapes.teacher_hidden:
            return nn.Identity()
        return nn.Linear(self.shapes.student_hidden, self.shapes.teacher_hidden, bias=False)

    def __call__(self, batch: Matched) -> Tensor:
        """`forward` on float32 vectors, outside of autocast.

        In bfloat16 the differences of vectors that are close would be rounding errors.
        """
        exact = batch._replace(
            student_BMH=batch.student_BMH.float(), teacher_BLH=batch.teacher_BLH.float()
        )
        with torch.autocast(batch.student_BMH.device.type, enabled=False):
            loss: Tensor = super().__call__(exact)
        return loss

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 1; also before the first one after a resume."""

    def forward(self, batch: Matched) -> Tensor:
        """The loss of a batch, a float32 scalar >= 0."""
        raise NotImplementedError

    def require_width(self, where: str, cache: str) -> None:
        """Refuse widths that differ unless a projection is asked for; raises CacheMismatchError."""
        s = self.shapes
        if self.teacher_layers and s.student_hidden != s.teacher_hidden and not self.params.project:
            raise CacheMismatchError(
                f"--init {where}: its hidden size is {s.student_hidden}, the cached [CLS] vectors "
                f"have {s.teacher_hidden} ({cache}); start from an encoder of that width, pass "
                "--project to learn a projection between the two, or use --strategy kd."
            )


def chosen(states_BMH: Tensor, layers: Sequence[int]) -> Tensor:
    """(B, len(layers), H) of layers numbered from 1."""
    return states_BMH[:, [layer - 1 for layer in layers]]
