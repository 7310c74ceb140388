"""Several processes at one task: `torchrun`, `accelerate launch`, or one alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from pipeline.devices import pick_device

LONGEST_WAIT = timedelta(days=7)  # of a quick worker for a slow one; a dead one ends all at once


@dataclass(frozen=True)
class Workers:
    """The processes of this command; this one is `index` of `count`."""

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prepares, checks and finishes what they make, and speaks."""
        return self.index == 0

    def meet(self) -> None:
        """Wait for all; a launcher ends the others when one fails."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place; each gives a tensor of one shape on its device."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def device(self, text: str) -> torch.device:
        """The device of `--device`; several processes with `auto` take one GPU each."""
        if self.count > 1 and text == "auto" and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.index)))
        return pick_device(text)


def join_workers(device: str = "auto") -> Workers:
    """Meet the other processes that a launcher started; alone when there are none.

    Args:
        device: of `--device`; with "cpu" they speak by gloo on a machine that has GPUs, too.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers()
    from accelerate import PartialState

    cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=LONGEST_WAIT)
    return Workers(state.process_index, state.num_processes)
