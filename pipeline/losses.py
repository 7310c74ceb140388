"""The losses of L = (1 - alpha) * CE + alpha * KD + beta * PT, in two named reductions.

Shapes: B rows in a batch, K outputs (classes, or 1 for regression), L matched layer pairs, H hidden
size. All terms are computed in float32, whatever the inputs are.

`pkd2019` is the authors' code, whose published alpha, beta and T can be used as they are: means
over everything. `paper` is the formula of the paper: sums within a row, mean over the batch. One is
the other times a constant: KD times K; PT times L * H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pipeline.batches import UNLABELLED_CLASS

Reduction = Literal["pkd2019", "paper"]


def hard_label_loss(logits_BK: Tensor, labels_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels, or squared error for float labels; mean over labelled rows.

    Args:
        logits_BK: (B, K).
        labels_B: (B,) int64 with UNLABELLED_CLASS, or float32 with NaN, where there is no label.
        smoothing: epsilon in [0, 1): targets are (1 - epsilon) * onehot + epsilon / K.

    Returns:
        A scalar; 0 for a batch without a labelled row.
    """
    if labels_B.is_floating_point():
        known_B = ~labels_B.isnan()
        gap_B = logits_BK[:, 0].float() - labels_B.nan_to_num()
        return (gap_B.square() * known_B).sum() / known_B.sum().clamp(min=1)
    known_B = labels_B != UNLABELLED_CLASS
    total = F.cross_entropy(
        logits_BK.float(),
        labels_B,
        ignore_index=UNLABELLED_CLASS,
        reduction="sum",
        label_smoothing=smoothing,
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


def logit_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    reduction: Reduction = "pkd2019",
    share: float = 1.0,
) -> Tensor:
    """Squared difference of logits (Ba and Caruana 2014; annealed: Jafari et al. 2021).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K).
        reduction: "pkd2019" = mean over batch and classes; "paper" = summed over classes.
        share: Phi, by which the teacher's logits are multiplied.

    Returns:
        A float32 scalar >= 0.
    """
    student_BK, teacher_BK = student_logits.float(), teacher_logits.float()
    mean = F.mse_loss(student_BK, share * teacher_BK)
    return mean if reduction == "pkd2019" else mean * student_BK.shape[-1]


def annealing_share(epoch: int, epochs: int) -> float | None:
    """Phi = 1 - (T - 1) / T_max of an epoch (Jafari et al. 2021, section 3.1).

    The first half of the epochs (rounded up) is stage one: T falls from T_max, their number, to 1,
    one an epoch. After that comes stage two, the labels alone.

    Args:
        epoch: from 1.
        epochs: of the whole run.

    Returns:
        A share in (0, 1]; None in stage two.
    """
    stage_one = (epochs + 1) // 2
    return epoch / stage_one if epoch <= stage_one else None


def uncertain_distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    reduction: Reduction = "pkd2019",
) -> Tensor:
    """KL weighted by 1 - u for each row; u is the student's entropy over log K (Li et al. 2021).

    DynamicKD's uncertainty-based adjustment of the soft-label term: a student that is unsure of a
    row listens less to the teacher's output there. u is taken at temperature 1, without gradient.

    Args:
        student_logits: (B, K), K > 1.
        teacher_logits: (B, K).
        temperature: T > 0.
        reduction: as `distillation_loss`.

    Returns:
        A float32 scalar >= 0.
    """
    student_BK, teacher_BK = student_logits.float(), teacher_logits.float()
    log_p_BK = F.log_softmax(student_BK.detach(), dim=-1)
    classes = student_BK.shape[-1]
    uncertainty_B = -(log_p_BK.exp() * log_p_BK).sum(-1) / math.log(classes)
    divergence_B = F.kl_div(
        F.log_softmax(student_BK / temperature, dim=-1),
        F.log_softmax(teacher_BK / temperature, dim=-1),
        log_target=True,
        reduction="none",
    ).sum(-1)
    mean = ((1 - uncertainty_B) * divergence_B).mean() * temperature**2
    return mean / classes if reduction == "pkd2019" else mean


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
    """The weights of the terms; a weight of 0 leaves its term out.

    What the outputs learn stands here; what [CLS] is to match is a `pipeline.strategies.Strategy`.
    """

    alpha: float
    """Weight of KD, in [0, 1]; 1 - alpha weighs the labels."""
    beta: float
    """Weight of the strategy's term."""
    temperature: float
    reduction: Reduction
    kd_loss: str = "kl"
    label_smoothing: float = 0.0
    epochs: int = 1
    """Of the run; `annealed` divides them."""

    def output_terms(
        self, logits_BK: Tensor, labels_B: Tensor, teacher_logits_BK: Tensor | None, epoch: int = 1
    ) -> dict[str, Tensor]:
        """Weighted terms of the outputs by name (ce, kd).

        Args:
            logits_BK: the student's.
            labels_B: see `hard_label_loss`.
            teacher_logits_BK: needed when alpha > 0.
            epoch: from 1; `annealed` depends on it, and has its own weights instead of alpha.
        """
        labels_weight, teacher_weight = self._weights(epoch)
        terms: dict[str, Tensor] = {}
        if labels_weight > 0:
            hard = hard_label_loss(logits_BK, labels_B, self.label_smoothing)
            terms["ce"] = labels_weight * hard
        if teacher_weight > 0:
            assert teacher_logits_BK is not None
            terms["kd"] = teacher_weight * self._soft(logits_BK, teacher_logits_BK, epoch)
        return terms

    def _weights(self, epoch: int) -> tuple[float, float]:
        if self.kd_loss == "annealed" and self.alpha > 0:
            return (1.0, 0.0) if annealing_share(epoch, self.epochs) is None else (0.0, 1.0)
        return 1 - self.alpha, self.alpha

    def _soft(self, logits_BK: Tensor, teacher_BK: Tensor, epoch: int) -> Tensor:
        match self.kd_loss:
            case "mse":
                return logit_loss(logits_BK, teacher_BK, self.reduction)
            case "annealed":
                share = annealing_share(epoch, self.epochs)
                assert share is not None
                return logit_loss(logits_BK, teacher_BK, self.reduction, share)
            case "uncertainty" if logits_BK.shape[-1] > 1:
                return uncertain_distillation_loss(
                    logits_BK, teacher_BK, self.temperature, self.reduction
                )
        return distillation_loss(logits_BK, teacher_BK, self.temperature, self.reduction)
