"""What a measurement ran on; no names of machines and no paths."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from pipeline import machine


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, device, threads and versions."""
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "threads": torch.get_num_threads(),
        "device": name or "the processor",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def load_average() -> list[float]:
    """Runnable processes, mean of the last 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]
