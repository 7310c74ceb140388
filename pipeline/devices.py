"""Where to compute and in which precision."""

from __future__ import annotations

import re
from typing import Any

import torch

from pipeline.errors import ParamsError


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU; raises ParamsError for one that is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ParamsError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ParamsError(f"--device {name}: this machine shows {found} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ParamsError("--device mps: not available on this machine.")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the processor multiplies it in hardware, else float32."""
    if name != "auto":
        return name
    return "bfloat16" if _has_bfloat16(device) else "float32"


def autocast(device: torch.device, precision: str) -> Any:
    """Context in which a forward pass runs; bfloat16 needs no loss scaling."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # without AMX or AVX512-BF16 autocast on a CPU is slower than float32
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
