"""How a run of the suite measures."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all parts are told."""

    device: torch.device
    quick: bool = False
    """Tiny models and few repetitions, to try the suite itself."""

    @property
    def precision(self) -> str:
        """Bfloat16 autocast on a GPU; float32 on a processor."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    def tell(self, text: str) -> None:
        """What is measured now, to standard error."""
        print(f"  {text}", file=sys.stderr, flush=True)
