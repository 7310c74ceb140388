"""EMD-CLS: BERT-EMD's many-to-many layer mapping (Li et al. 2020) on [CLS] vectors.

Every student layer may learn from every teacher layer, the last ones included; how much, the earth
mover's distance between the layers decides. It is the hidden-state term of BERT-EMD alone: its
attention and embedding terms need tokens, which a cache does not hold.

Shapes: B rows, N teacher layers, M student layers, H hidden size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Shapes, Strategy

LEAST_COST = 1e-6  # a layer that costs nothing would otherwise have an infinite weight
LEAST_WEIGHT = 1e-6  # a layer without weight moves nothing, so its unit cost would be unknown


class EarthMover(Strategy):
    """Exact optimal transport between layers, with cost attention on their weights.

    The flow is solved on detached costs; gradients pass through the costs alone, as in the authors'
    code. The weights move with every training step.
    """

    weight_N: Tensor
    weight_M: Tensor

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__(shapes, params)
        n, m = shapes.teacher_layers, shapes.student_layers
        self.teacher_layers = tuple(range(1, n + 1))
        self.register_buffer("weight_N", torch.full((n,), 1 / n))
        self.register_buffer("weight_M", torch.full((m,), 1 / m))

    def forward(self, batch: Matched) -> Tensor:
        """EMD = sum f_ij d_ij / sum f_ij, with d_ij the mean squared difference of two layers."""
        cost_NM = layer_costs(self.projection(batch.student_BMH), batch.teacher_BLH)
        fixed_NM = cost_NM.detach().cpu().double().numpy()
        flow_NM = transport(_shares(self.weight_N), _shares(self.weight_M), fixed_NM)
        if self.training and self.params.emd_weights != "fixed":
            self._attend(flow_NM * fixed_NM)
        flow = torch.from_numpy(flow_NM).float().to(cost_NM.device)
        return (flow * cost_NM).sum() / flow.sum()

    def _attend(self, moved_NM: np.ndarray) -> None:
        """Cost attention (Li et al. 2020, eq. 23): cheap layers gain weight."""
        for weight, moved in ((self.weight_N, moved_NM.sum(1)), (self.weight_M, moved_NM.sum(0))):
            new = attended(
                _shares(weight), moved, self.params.emd_weights, self.params.emd_temperature
            )
            weight.copy_(torch.from_numpy(new))


def _shares(weight: Tensor) -> np.ndarray:
    """A float64 copy that sums to 1."""
    result = weight.cpu().double().numpy()
    return np.asarray(result / result.sum())


def layer_costs(student_BMH: Tensor, teacher_BNH: Tensor) -> Tensor:
    """(N, M): d_ij = mean over batch and hidden size of (teacher_i - student_j)^2.

    Expanded into norms and products, so that no (B, N, M, H) is made.
    """
    teacher, student = (each.transpose(0, 1).flatten(1) for each in (teacher_BNH, student_BMH))
    norms_N, norms_M = teacher.square().sum(1), student.square().sum(1)
    total = norms_N[:, None] + norms_M[None, :] - 2 * (teacher @ student.T)
    return total.clamp(min=0) / teacher.shape[1]


def transport(weight_N: np.ndarray, weight_M: np.ndarray, cost_NM: np.ndarray) -> np.ndarray:
    """(N, M) float64: the cheapest flow between two weightings of total 1, exactly, by POT.

    Costs that are not finite have no cheapest flow; any one lets the training loop see them.
    """
    import ot

    if not np.isfinite(cost_NM).all():
        return np.outer(weight_N, weight_M)
    return np.asarray(ot.emd(weight_N, weight_M, cost_NM))


def attended(
    weight: np.ndarray, moved: np.ndarray, normalization: str, temperature: float
) -> np.ndarray:
    """New weights of one side's layers from what each of them moved at which cost.

    Args:
        weight: (K,) present weights, > 0.
        moved: (K,) sum over the other side of flow * cost.
        normalization: of the inverse unit costs w_i = (sum_k C_k) / C_i: "l1" divides by their sum
            (the authors' code since 2021), "softmax" is the paper's, at `temperature`.
        temperature: tau > 0.

    Returns:
        (K,) float64 of at least about LEAST_WEIGHT that sum to 1.
    """
    unit = np.maximum(moved / weight, LEAST_COST)
    inverse = unit.sum() / unit
    if normalization == "softmax":
        scaled = inverse / temperature
        inverse = np.exp(scaled - scaled.max())
    new = np.maximum(inverse / inverse.sum(), LEAST_WEIGHT)
    return np.asarray(new / new.sum())
