"""CoDIR (Sun et al. 2020): the student's layers recognise their own example among others' teachers.

Shapes: B rows, N training rows, K negatives, U size of the shared space, H hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.batches import UNLABELLED_CLASS
from pipeline.errors import ParamsError
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Shapes, Strategy

TEMPERATURE, MOMENTUM = 0.07, 0.5  # of the authors' code


class Contrastive(Strategy):
    """Contrast of concatenated [CLS] vectors with a memory bank of the teacher's.

    All layers of the student and every second one of the teacher (1, 3, ...), the authors' choice,
    are concatenated, mapped to a shared space and scaled to length 1. The positive is the teacher's
    vector of the same row; negatives are rows of other classes, from a bank that moves towards what
    it sees. Theirs is noise contrastive estimation, in both directions; this is InfoNCE, in one.
    """

    bank_NU: Tensor
    label_N: Tensor

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__(shapes, params)
        if shapes.classes < 2:
            raise ParamsError("Strategy contrastive: needs classes; this task is a regression.")
        if shapes.labelled_rows == 0:
            raise ParamsError(
                "Strategy contrastive: needs the class of training rows, and the cache has no "
                "labelled one. Build it from labelled rows, or use another strategy."
            )
        self.teacher_layers = tuple(range(1, shapes.teacher_layers + 1, 2))
        size, layers = params.match_size, len(self.teacher_layers)
        self.projection = nn.Identity()  # the maps below take its place
        self.of_student = nn.Linear(shapes.student_layers * shapes.student_hidden, size)
        self.of_teacher = nn.Linear(layers * shapes.teacher_hidden, size)
        draw = torch.Generator().manual_seed(params.seed)
        bank = F.normalize(torch.randn(shapes.rows, size, generator=draw), dim=-1)
        self.register_buffer("bank_NU", bank)
        # rows whose class was not seen yet, and rows without one, are nobody's negatives
        self.register_buffer("label_N", torch.full((shapes.rows,), UNLABELLED_CLASS))

    def forward(self, batch: Matched) -> Tensor:
        """-log of the positive's share of exp(similarity / tau); mean over rows with negatives."""
        student_BMH, teacher_BLH, rows_B, labels_B = batch
        student_BU = F.normalize(self.of_student(student_BMH.flatten(1)), dim=-1)
        teacher_BU = F.normalize(self.of_teacher(teacher_BLH.flatten(1)), dim=-1)
        negatives_BK, there_B = self._negatives(labels_B)
        loss_B = contrast(student_BU, teacher_BU, self.bank_NU[negatives_BK])
        if self.training:
            self._remember(rows_B, labels_B, teacher_BU.detach())
        return (loss_B * there_B).sum() / there_B.sum().clamp(min=1)

    def _negatives(self, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) bank rows of other classes, drawn with replacement; and where there are any."""
        label_N, row_N = self.label_N.sort()  # classes are ranges; those without one come first
        first_B, last_B = (torch.searchsorted(label_N, labels_B, right=r) for r in (False, True))
        unseen, own_B = (label_N == UNLABELLED_CLASS).sum(), last_B - first_B
        others_B = len(label_N) - unseen - own_B
        there_B = (others_B > 0) & (labels_B != UNLABELLED_CLASS)
        share_BK = torch.rand(len(labels_B), self.params.negatives, device=labels_B.device)
        place_BK = (share_BK * others_B[:, None]).long().clamp(max=others_B[:, None] - 1) + unseen
        place_BK += own_B[:, None] * (place_BK >= first_B[:, None])  # step over the own class
        return row_N[place_BK * there_B[:, None]], there_B

    def _remember(self, rows_B: Tensor, labels_B: Tensor, teacher_BU: Tensor) -> None:
        moved_BU = MOMENTUM * self.bank_NU[rows_B] + (1 - MOMENTUM) * teacher_BU
        self.bank_NU[rows_B] = F.normalize(moved_BU, dim=-1)
        self.label_N[rows_B] = labels_B


def contrast(student_BU: Tensor, teacher_BU: Tensor, negatives_BKU: Tensor) -> Tensor:
    """(B,) InfoNCE with one positive: -log(e^(s.t) / (e^(s.t) + sum_k e^(s.n_k))), s / tau."""
    positive_B1 = (student_BU * teacher_BU).sum(-1, keepdim=True)
    negative_BK = torch.einsum("bu,bku->bk", student_BU, negatives_BKU)
    logits_BK1 = torch.cat([positive_B1, negative_BK], dim=1) / TEMPERATURE
    return -F.log_softmax(logits_BK1, dim=1)[:, 0]
