"""pytest tests/pipeline/sweep/test_worker.py - the processes of a sweep."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.params import StudentParams
from pipeline.sweep import run, worker
from pipeline.sweep.worker import work_apart


def orphan(folder: str, pid: Any) -> None:
    """A command that starts a worker and is killed."""
    worker = get_context("spawn").Process(target=work_apart, args=(SleepingJob(folder), 0))
    worker.start()
    pid.value = worker.pid
    while not (Path(folder) / "works").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


class SleepingJob:
    """Stands for a `Job`: its worker trains for ever."""

    alone = False
    plan = SimpleNamespace(name="s")

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def threads(self) -> None:
        (Path(self.folder) / "works").touch()
        time.sleep(60)


def test_a_worker_ends_with_a_command_that_was_killed(tmp_path: Path) -> None:
    context = get_context("spawn")
    pid = context.Value("i", 0)
    command = context.Process(target=orphan, args=(str(tmp_path), pid))
    command.start()
    command.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid.value}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid.value}").exists()


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, ["0", "1", "2", "0", "1"]),
        ("cuda", "3,GPU-5", ["3", "GPU-5", "3", "GPU-5", "3"]),
        ("cuda:1", None, [None] * 5),
        ("cpu", None, [None] * 5),
    ],
)
def test_workers_take_several_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, expected: list[str | None]
) -> None:
    """On a machine that claims to have three."""
    given: list[Any] = []

    def process(*, target: Any, args: Any, name: str) -> Any:
        assert target is work_apart
        given.append(args)
        ended = SimpleNamespace(exitcode=0, is_alive=lambda: False)
        ended.start = ended.terminate = ended.join = lambda: None
        return ended

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(run, "get_context", lambda _: SimpleNamespace(Process=process))
    monkeypatch.setattr(run, "trial_states", lambda _: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    job: Any = object()
    run._run_workers(job, 5, run.gpus_of(device), None, lambda _: None)
    assert given == [(job, index, gpu) for index, gpu in enumerate(expected)]


def test_there_are_four_workers_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run._worker_count(None, StudentParams(), gpus=3, most=100) == 12
    assert run._worker_count(None, StudentParams(device="cpu"), gpus=0, most=100) == (
        len(os.sched_getaffinity(0))
    )
    assert run._worker_count(7, StudentParams(), gpus=3, most=5) == 5


def test_a_worker_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,4")
    monkeypatch.setattr(worker, "_end_with_parent", lambda: None)
    seen: list[str] = []
    monkeypatch.setattr(worker, "work", lambda _: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    job: Any = SimpleNamespace(alone=False, plan=SimpleNamespace(name="s"))
    work_apart(job, 1, "4")
    work_apart(job, 0)
    assert seen == ["4", "4"]  # the second is told of none, and leaves it as it is
