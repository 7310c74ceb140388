"""pytest tests/pipeline/test_devices.py"""

from __future__ import annotations

import pytest
import torch

from pipeline.devices import autocast, pick_device, pick_precision
from pipeline.errors import ParamsError

CPU = torch.device("cpu")


def test_auto_takes_an_accelerator_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "gpu0"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ParamsError, match=f"--device {name}"):
        pick_device(name)


@pytest.mark.parametrize(
    ("capability", "precision"), [("amx_bf16", "bfloat16"), ("avx512_f", "float32")]
)
def test_auto_precision_asks_the_processor(
    monkeypatch: pytest.MonkeyPatch, capability: str, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    assert pick_precision("auto", CPU) == precision
    assert pick_precision("bfloat16", CPU) == "bfloat16"


def test_autocast_is_on_when_asked() -> None:
    one = torch.ones(2, 2)
    with autocast(CPU, "bfloat16"):
        assert (one @ one).dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert (one @ one).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_multiplies_bfloat16() -> None:
    device = pick_device("cuda")
    with autocast(device, pick_precision("auto", device)):
        one = torch.ones(2, 2, device=device)
        assert (one @ one).dtype == torch.bfloat16
