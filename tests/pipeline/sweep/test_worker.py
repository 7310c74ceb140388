"""pytest tests/pipeline/sweep/test_worker.py - the processes of a sweep."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
