"""Patient KD (Sun et al. 2019): each student layer matches one teacher layer. Also its controls."""

from __future__ import annotations

from torch import Tensor

from pipeline.layers import layer_map
from pipeline.losses import Reduction, patience_loss
from pipeline.models.sharing import counted_as, match_every
from pipeline.params import StudentParams
from pipeline.strategies.base import Matched, Shapes, Strategy, chosen


class Patient(Strategy):
    """skip, last, a list of layers, and the controls reverse, shuffled and all-to-one.

    The loss is `pipeline.losses.patience_loss`, in the unit of `--reduction`, normalised or not.
    """

    def __init__(self, shapes: Shapes, params: StudentParams) -> None:
        super().__init__(shapes, params)
        every = match_every(params)
        self.teacher_layers = layer_map(
            params.strategy,
            shapes.teacher_layers,
            shapes.student_layers // every,
            match_top=params.match_top,
            seed=params.seed,
            counted=counted_as(params, every),
        )
        self.pairs = tuple((every * j, t) for j, t in enumerate(self.teacher_layers, start=1))

    def forward(self, batch: Matched) -> Tensor:
        """Squared distance of the pairs."""
        student_BLH = chosen(batch.student_BMH, [student for student, _ in self.pairs])
        reduction: Reduction = "paper" if self.params.reduction == "paper" else "pkd2019"
        student_BLH = self.projection(student_BLH)
        return patience_loss(student_BLH, batch.teacher_BLH, self.params.normalize, reduction)
