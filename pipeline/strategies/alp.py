"""ALP-KD (Passban et al. 2021): each student layer attends to all teacher layers, on [CLS].

Shapes: B rows, N teacher layers, M student layers, H hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Shapes, Strategy


class Attentive(Strategy):
    """Every student layer 1..M matches a mixture of teacher layers 1..N."""

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__(shapes, params)
        self.teacher_layers = tuple(range(1, shapes.teacher_layers + 1))

    def forward(self, batch: Matched) -> Tensor:
        """Mean squared difference between h_j and C_j, over batch, student layers, hidden size."""
        student_BMH = self.projection(batch.student_BMH)
        mixture_BMH = mixture(student_BMH, batch.teacher_BLH, scaled=self.params.alp_scale)
        return F.mse_loss(student_BMH, mixture_BMH)


def mixture(student_BMH: Tensor, teacher_BNH: Tensor, *, scaled: bool) -> Tensor:
    """C_j = sum_i a_ij h_i, with a_ij = softmax over i of the dot product of h_j and h_i.

    Args:
        student_BMH: (B, M, H).
        teacher_BNH: (B, N, H).
        scaled: divide the products by sqrt(H). As published they are not, and with hundreds of
            dimensions the attention is nearly one-hot.

    Returns:
        (B, M, H).
    """
    scores_BMN = student_BMH @ teacher_BNH.transpose(1, 2)
    if scaled:
        scores_BMN = scores_BMN / student_BMH.shape[-1] ** 0.5
    return torch.softmax(scores_BMN, dim=-1) @ teacher_BNH
