"""One forward pass of a student and its weighted losses: what the training loop minimises.

Shapes: B rows of a batch, M student layers, L teacher layers that the strategy reads, H hidden
size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pipeline.batches import starts_of
from pipeline.losses import Objective
from pipeline.models.hidden_states import cls_states
from pipeline.strategies.base import Matched, Strategy
from pipeline.student.targets import CachedTargets, Targets
from pipeline.student.teachers import DrawnTargets


class DistillationTerms(nn.Module):
    """Calls the student, the objective and the strategy; holds what the strategy learns.

    Args of the constructor:
        model: the student; it is no part of this module's parameters.
        objective: weights of the terms.
        targets: the teacher's outputs; None when nothing of a teacher is used.
        strategy: what [CLS] is to match.
    """

    def __init__(
        self, model: Any, objective: Objective, targets: Targets | None, strategy: Strategy
    ) -> None:
        super().__init__()
        self._student = [model]  # in a list, so that torch does not register it
        self.objective, self.targets, self.strategy = objective, targets, strategy
        self.epoch = 1
        self.needs_labels = targets is None
        self._matches = objective.beta > 0 and bool(strategy.teacher_layers)
        self._layers = tuple(range(1, strategy.shapes.student_layers + 1))

    def start_epoch(self, epoch: int) -> None:
        """Told by the training loop; `annealed` and `rail` depend on it."""
        self.epoch = epoch
        self.strategy.start_epoch(epoch)
        if isinstance(self.targets, DrawnTargets):
            self.targets.start_epoch(epoch)

    def prefetch(self, rows_B: Tensor) -> None:
        """Told by the training loop of the next batch, by row numbers on the CPU."""
        if isinstance(self.targets, CachedTargets | DrawnTargets):
            self.targets.prefetch(rows_B)

    def forward(
        self, inputs: dict[str, Any], rows_B: Tensor, labels_B: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms by name: ce, kd, pt, where their weight is above 0."""
        (model,) = self._student
        output = model(**inputs, output_hidden_states=self._matches)
        if self.targets is None:
            return self.objective.output_terms(output.logits, labels_B, None, self.epoch)
        teacher_BK, teacher_BLH = self.targets(rows_B, inputs)
        terms = self.objective.output_terms(output.logits, labels_B, teacher_BK, self.epoch)
        if self._matches:
            student_BMH = cls_states(output.hidden_states, self._layers, starts_of(inputs))
            batch = Matched(student_BMH, teacher_BLH, rows_B, labels_B)
            terms["pt"] = self.objective.beta * self.strategy(batch)
        return terms
