"""One batch by several processes, with the gradients that one process would have.

Every process takes a part of the rows of a batch. A loss term is a mean over rows (ce: over the
labelled ones), so that of the whole batch is the sum of the parts' means, each weighed by its share
of the rows.
Shapes: B rows of a batch, b of them here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.batches import Rows
from pipeline.errors import ParamsError
from pipeline.workers import Workers

OVER_LABELLED = "ce"  # the term that is a mean over labelled rows; the others are over all


class Shares:
    """This process's part of every batch, and the sum of what all processes make of theirs."""

    def __init__(self, rows: Rows, trained: nn.Module, learnt: nn.Module, workers: Workers) -> None:
        """Raises ParamsError for terms whose state would differ from process to process."""
        self.workers = workers
        if workers.count == 1:
            return
        if any(True for _ in learnt.buffers()):
            raise ParamsError(
                "This strategy keeps a state of the rows that it sees (as emd and contrastive do), "
                "which several processes would not share; train it with one."
            )
        self._labelled_N = rows.labelled_N.cpu()
        self._trained = [each for each in trained.parameters() if each.requires_grad]

    def of(self, rows_B: Tensor) -> Tensor:
        """(b,) rows of a batch that are this process's; of a batch that is too small, any one."""
        here_B = rows_B.tensor_split(self.workers.count)[self.workers.index]
        return here_B if len(here_B) else rows_B[:1]

    def weighed(self, losses: Mapping[str, Tensor], rows_B: Tensor) -> dict[str, Tensor]:
        """Terms whose mean over the processes is the term of the whole batch.

        Args:
            losses: means over this process's rows.
            rows_B: the whole batch, on the CPU.
        """
        if self.workers.count == 1:
            return dict(losses)
        parts = rows_B.tensor_split(self.workers.count)
        here_B = parts[self.workers.index]
        labelled = self._labelled_N
        share = len(here_B) / len(rows_B)
        of_labelled = float(labelled[here_B].sum() / labelled[rows_B].sum().clamp(min=1))
        return {
            name: value * (self.workers.count * (of_labelled if name == OVER_LABELLED else share))
            for name, value in losses.items()
        }

    def join(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make every process's gradients, and the losses, those of the whole batch."""
        if self.workers.count == 1:
            return dict(losses)
        grads = [each.grad for each in self._trained if each.grad is not None]
        values = torch.stack([value.detach().float() for value in losses.values()])
        together = torch.cat([*(grad.flatten() for grad in grads), values])
        self.workers.sum(together).div_(self.workers.count)
        sizes = [grad.numel() for grad in grads]
        *joined, values = together.split([*sizes, len(values)])
        for grad, summed in zip(grads, joined, strict=True):
            grad.copy_(summed.view_as(grad))
        return dict(zip(losses, values, strict=True))
