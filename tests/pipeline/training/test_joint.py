"""pytest tests/pipeline/training/test_joint.py - one student trained by several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.batches import Rows
from pipeline.errors import ParamsError
from pipeline.training.joint import Shares
from pipeline.workers import Workers, join_workers
from tests.support.tiny import World

ROOT = Path(__file__).parents[3]
SOAK = bool(os.environ.get("PKD_SOAK"))


def rows_with(labels: list[int]) -> Rows:
    count = len(labels)
    return Rows(
        ids_T=torch.arange(count), types_T=None, starts_N1=torch.arange(count + 1),
        labels_N=torch.tensor(labels), pad_id=0,
    )  # fmt: skip


class Summed(Workers):
    """Adds what the other process would give."""

    def __init__(self, index: int, others: Tensor) -> None:
        super().__init__(index, 2)
        object.__setattr__(self, "others", others)

    def sum(self, values: Tensor) -> Tensor:
        return values.add_(self.others)  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch", [[0, 1, 2, 3], [4, 2, 0, 1, 3], [3]])
def test_the_mean_of_weighed_terms_is_the_term_of_the_whole_batch(batch: list[int]) -> None:
    """A batch that divides, one that does not, and one with a process that has no row of it."""
    rows, values = rows_with([0, -100, 1, 1, -100]), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    known = rows.labelled_N
    whole = {
        "ce": values[batch][known[batch]].mean() if known[batch].any() else torch.tensor(0.0),
        "pt": values[batch].mean(),
    }
    total = {"ce": torch.tensor(0.0), "pt": torch.tensor(0.0)}
    for index in (0, 1):
        shares = Shares(rows, nn.Module(), nn.Module(), Workers(index, 2))
        here = shares.of(torch.tensor(batch))
        labelled = here[known[here]]
        means = {
            "ce": values[labelled].sum() / max(len(labelled), 1),
            "pt": values[here].mean(),
        }
        for name, value in shares.weighed(means, torch.tensor(batch)).items():
            total[name] += value / 2
    torch.testing.assert_close(total, whole)


@pytest.mark.parametrize(("device", "on_cpu"), [("cpu", True), ("auto", False), ("cuda", False)])
def test_processes_on_the_processor_of_a_machine_with_gpus_speak_by_gloo(
    monkeypatch: pytest.MonkeyPatch, device: str, on_cpu: bool
) -> None:
    asked: list[bool] = []

    def state(*, cpu: bool, **_: Any) -> Any:
        asked.append(cpu)
        return SimpleNamespace(process_index=1, num_processes=2)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("accelerate.PartialState", state)
    assert join_workers(device) == Workers(1, 2)
    assert asked == [on_cpu]


def test_gradients_and_losses_are_joined_in_one_sum() -> None:
    layer = nn.Linear(2, 1)
    layer(torch.tensor([[1.0, 2.0]])).sum().backward()
    others = torch.tensor([3.0, 4.0, 5.0, 10.0])  # two weights, a bias, a loss
    shares = Shares(rows_with([0]), layer, nn.Module(), Summed(0, others))
    losses = shares.join({"total": torch.tensor(2.0)})
    assert losses["total"].item() == 6.0
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[2.0, 3.0]]
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [3.0]


def test_a_strategy_with_a_state_of_its_rows_is_refused() -> None:
    strategy = nn.Module()
    strategy.register_buffer("bank", torch.zeros(3))
    with pytest.raises(ParamsError, match="train it with one"):
        Shares(rows_with([0]), nn.Module(), strategy, Workers(0, 2))
    Shares(rows_with([0]), nn.Module(), strategy, Workers())


# --- real processes ------------------------------------------------------------------------------


def launch(world: World, out: Path, processes: int, *more: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [
        *launcher, "stages.student", "fit", "--cache", str(world.cache), "--out", str(out),
        "--init", str(world.encoder), "--student-layers", "2", "--batch-size", "16",
        "--learning-rate", "2e-4", "--dropout", "0", "--device", "cpu", "--precision", "float32",
        *more,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        cwd=out.parent, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    return stdout


def outcome(out: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return load_file(out / "model.safetensors"), json.loads((out / "run.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "more"),
    [("skip", ()), ("alp", ()), ("skip", ("--packed",))] if SOAK else [("skip", ())],
)
def test_two_processes_train_what_one_trains(
    world: World, tmp_path: Path, strategy: str, more: tuple[str, ...]
) -> None:
    """150 rows in batches of 16: the last one has 6. Float32 sums in another order, no more."""
    given = ("--strategy", strategy, "--epochs", "2")
    finish(launch(world, tmp_path / "one", 1, *given))
    stdout = finish(launch(world, tmp_path / "two", 2, *given, *more))
    assert stdout.count("of 4 layers") == 1  # one of them speaks
    weights, record = outcome(tmp_path / "one")
    weights_of_two, record_of_two = outcome(tmp_path / "two")
    for name, weight in weights.items():
        torch.testing.assert_close(weights_of_two[name], weight, rtol=0, atol=1e-5)
    for epoch, epoch_of_two in zip(record["history"], record_of_two["history"], strict=True):
        assert epoch_of_two["losses"] == pytest.approx(epoch["losses"], rel=1e-4)
        assert epoch_of_two["scores"] == epoch["scores"]


@pytest.mark.slow
@pytest.mark.soak_only  # three launches
def test_two_killed_processes_go_on_together(world: World, tmp_path: Path) -> None:
    given = ("--strategy", "skip", "--epochs", "4")
    finish(launch(world, tmp_path / "whole", 2, *given))
    process = launch(world, tmp_path / "cut", 2, *given)
    checkpoint = tmp_path / ".cut.partial" / ".state" / "last" / "progress.json"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(launch(world, tmp_path / "cut", 2, *given, "--resume"))
    weights, record = outcome(tmp_path / "whole")
    resumed, resumed_record = outcome(tmp_path / "cut")
    assert len(resumed_record["history"]) == len(record["history"]) == 4
    for name, weight in weights.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=0)
