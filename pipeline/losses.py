"""The objective L = (1 - alpha) * CE + alpha * KD + beta * PT, in two named reductions.

Shapes: B rows in a batch, K outputs (classes, or 1 for regression), L matched layer pairs, H hidden
size. All terms are computed in float32, whatever the inputs are.

`pkd2019` is the authors' code, whose published alpha, beta and T can be used as they are: means
over everything. `paper` is the formula of the paper: sums within a row, mean over the batch. One is
the other times a constant: KD times K; PT times L * H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pipeline.batches import UNLABELLED_CLASS

Reduction = Literal["pkd2019", "paper"]


def hard_label_loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy with the labels, or squared error for float labels; mean over labelled rows.

    Args:
        logits_BK: (B, K).
        labels_B: (B,) int64 with UNLABELLED_CLASS, or float32 with NaN, where there is no label.

    Returns:
        A scalar; 0 for a batch without a labelled row.
    """
    if labels_B.is_floating_point():
        known_B = ~labels_B.isnan()
        gap_B = logits_BK[:, 0].float() - labels_B.nan_to_num()
        return (gap_B.square() * known_B).sum() / known_B.sum().clamp(min=1)
    known_B = labels_B != UNLABELLED_CLASS
    total = F.cross_entropy(
        logits_BK.float(), labels_B, ignore_index=UNLABELLED_CLASS, reduction="sum"
    )
    return total / known_B.sum().clamp(min=1)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    reduction: Reduction = "pkd2019",
) -> Tensor:
    """Soft-label term: T^2 * KL(softmax(t / T) || softmax(s / T)) (Hinton et al. 2015).

    The paper (Sun et al. 2019) writes a cross-entropy, which differs by the teacher's entropy and
    so has the same gradient, and no T^2; the authors' code has the divergence and the factor.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        temperature: T > 0.
        reduction: "pkd2019" = mean over batch and classes; "paper" = summed over classes, mean over
            the batch.

    Returns:
        A float32 scalar >= 0. For K = 1 (regression) the mean squared difference; T has no part.
    """
    student_BK, teacher_BK = student_logits.float(), teacher_logits.float()
    if student_BK.shape[-1] == 1:
        return F.mse_loss(student_BK, teacher_BK)
    total = F.kl_div(
        F.log_softmax(student_BK / temperature, dim=-1),
        F.log_softmax(teacher_BK / temperature, dim=-1),
        log_target=True,
        reduction="sum",
    )
    count = student_BK.numel() if reduction == "pkd2019" else len(student_BK)
    return total * (temperature**2 / count)


def patience_loss(
    student_cls: Tensor,
    teacher_cls: Tensor,
    normalize: bool = True,
    reduction: Reduction = "pkd2019",
) -> Tensor:
    """Squared distance of matched [CLS] vectors (Sun et al. 2019, eq. 7).

    Args:
        student_cls: (B, L, H) hidden states of the student at the first token.
        teacher_cls: (B, L, H) of the teacher; any floating type.
        normalize: scale each vector to length 1 first, as the paper does.
        reduction: "pkd2019" = mean over batch, pairs and hidden size; "paper" = summed over pairs
            and hidden size, mean over the batch.

    Returns:
        A float32 scalar >= 0; 0 when L = 0.
    """
    student_BLH, teacher_BLH = student_cls.float(), teacher_cls.float()
    if student_BLH.shape[1] == 0:
        return student_BLH.sum()
    if normalize:
        student_BLH = F.normalize(student_BLH, dim=-1)
        teacher_BLH = F.normalize(teacher_BLH, dim=-1)
    mean = F.mse_loss(student_BLH, teacher_BLH)
    pairs, hidden = student_BLH.shape[1:]
    return mean if reduction == "pkd2019" else mean * (pairs * hidden)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The weights of the three terms; a weight of 0 leaves its term out."""

    alpha: float
    """Weight of KD, in [0, 1]; 1 - alpha weighs the labels."""
    beta: float
    """Weight of the patient term, in the unit of `reduction`."""
    temperature: float
    reduction: Reduction
    normalize: bool

    def terms(
        self,
        logits_BK: Tensor,
        labels_B: Tensor,
        teacher_logits_BK: Tensor | None,
        cls_BLH: Tensor | None,
        teacher_cls_BLH: Tensor | None,
    ) -> dict[str, Tensor]:
        """Weighted terms by name (ce, kd, pt); their sum is the loss.

        Args:
            logits_BK: the student's.
            labels_B: see `hard_label_loss`.
            teacher_logits_BK: needed when alpha > 0.
            cls_BLH: the student's matched layers, needed when beta > 0; None = nothing is matched.
            teacher_cls_BLH: the teacher's, likewise.
        """
        terms: dict[str, Tensor] = {}
        if self.alpha < 1:
            terms["ce"] = (1 - self.alpha) * hard_label_loss(logits_BK, labels_B)
        if self.alpha > 0:
            assert teacher_logits_BK is not None
            terms["kd"] = self.alpha * distillation_loss(
                logits_BK, teacher_logits_BK, self.temperature, self.reduction
            )
        if self.beta > 0 and cls_BLH is not None:
            assert teacher_cls_BLH is not None
            terms["pt"] = self.beta * patience_loss(
                cls_BLH, teacher_cls_BLH, self.normalize, self.reduction
            )
        return terms
