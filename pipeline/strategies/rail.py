"""RAIL-KD (Haidar et al. 2022): random intermediate layers, drawn anew every epoch, on [CLS].

The paper pools all tokens; from a cache it is [CLS]. Shapes: B rows, M layers, H hidden size.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import ParamsError
from pipeline.models.sharing import counted_as
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Shapes, Strategy, chosen


class Rail(Strategy):
    """RAIL-l: a pair of linear maps for each pair of layers.

    Every epoch M of the N teacher layers are drawn without replacement, the last one included, and
    paired in order with student layers 1..M.
    """

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__(shapes, params)
        if shapes.student_layers > shapes.teacher_layers:
            raise ParamsError(
                f"Strategy {params.strategy}: a student of {shapes.student_layers} "
                f"{counted_as(params, 1)} cannot draw as many of a teacher's "
                f"{shapes.teacher_layers}; lower --student-layers."
            )
        self.teacher_layers = tuple(range(1, shapes.teacher_layers + 1))
        self.drawn: list[int] = []
        self.projection = nn.Identity()  # the maps below take its place
        self.maps = self._make_maps(shapes.student_layers, params.match_size)
        self.start_epoch(1)

    def _make_maps(self, pairs: int, size: int) -> nn.ModuleDict:
        student, teacher = self.shapes.student_hidden, self.shapes.teacher_hidden
        of_student = nn.ModuleList(nn.Linear(student, size, bias=False) for _ in range(pairs))
        of_teacher = nn.ModuleList(nn.Linear(teacher, size, bias=False) for _ in range(pairs))
        return nn.ModuleDict({"student": of_student, "teacher": of_teacher})

    def start_epoch(self, epoch: int) -> None:
        """Draw this epoch's layers, by seed and epoch alone."""
        draw = random.Random(f"{self.params.seed} {epoch}")
        self.drawn = sorted(draw.sample(self.teacher_layers, self.shapes.student_layers))

    def forward(self, batch: Matched) -> Tensor:
        """Distance of unit vectors, not squared; mean over batch and pairs."""
        student_BMH, teacher_BMH = self._drawn_of(batch)
        return torch.stack(
            [
                unit_distance(of_student(student_BMH[:, j]), of_teacher(teacher_BMH[:, j]))
                for j, (of_student, of_teacher) in enumerate(self._pairs())
            ]
        ).mean()

    def _drawn_of(self, batch: Matched) -> tuple[Tensor, Tensor]:
        """Both sides' M layers."""
        return batch.student_BMH, chosen(batch.teacher_BLH, self.drawn)

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        students, teachers = self.maps["student"], self.maps["teacher"]
        assert isinstance(students, nn.ModuleList)
        assert isinstance(teachers, nn.ModuleList)
        return list(zip(students, teachers, strict=True))


class RailConcat(Rail):
    """RAIL-c: the drawn layers one after another, and one map for each side."""

    def _make_maps(self, pairs: int, size: int) -> nn.ModuleDict:
        student, teacher = self.shapes.student_hidden, self.shapes.teacher_hidden
        of_student = nn.ModuleList([nn.Linear(pairs * student, size, bias=False)])
        of_teacher = nn.ModuleList([nn.Linear(pairs * teacher, size, bias=False)])
        return nn.ModuleDict({"student": of_student, "teacher": of_teacher})

    def forward(self, batch: Matched) -> Tensor:
        """Distance of unit vectors, not squared; mean over the batch."""
        student_BMH, teacher_BMH = self._drawn_of(batch)
        ((of_student, of_teacher),) = self._pairs()
        return unit_distance(of_student(student_BMH.flatten(1)), of_teacher(teacher_BMH.flatten(1)))


def unit_distance(one_BU: Tensor, other_BU: Tensor) -> Tensor:
    """Mean over the batch of ||a / |a| - b / |b| ||."""
    gap_BU = F.normalize(one_BU, dim=-1) - F.normalize(other_BU, dim=-1)
    # the root's gradient at 0 is infinite
    return gap_BU.square().sum(-1).clamp(min=1e-12).sqrt().mean()
