"""Start-up: the help of every command, and `pkd-cache info` of a local cache."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting
from benchmarks.summary import summary
from pipeline import machine
from pipeline.timing import Rounds, seconds_of, take_turns

GROUPS = ("data", "teacher", "cache", "student", "report")
INFO = "pkd-cache info CACHE"
WARM_UP = 1


def measure_startup(setting: Setting) -> dict[str, Any]:
    """Seconds and seconds of processor time of every command, in turn."""
    from benchmarks.synthetic import synthetic_cache

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.zarr"
        synthetic_cache(path, rows=100, layers=12, hidden=32, length=20)
        commands = {" ".join(words): words for words in _helps(setting)}
        commands[INFO] = ("pkd-cache", "info", str(path))
        used: dict[str, list[float]] = {name: [] for name in commands}
        works = {name: _work(words, used[name]) for name, words in commands.items()}
        setting.tell(f"start-up of {len(works)} commands")
        rounds = Rounds.exactly(WARM_UP + (2 if setting.quick else 7))
        timed = {name: partial(seconds_of, work, setting.device) for name, work in works.items()}
        seconds = take_turns(timed, rounds, "start-up")
    return {
        "load": machine.load(),
        "contenders": {
            name: summary(seconds[name][WARM_UP:])
            | {"processor": summary(used[name][WARM_UP:])["median"]}
            for name in commands
        },
    }  # fmt: skip


def _helps(setting: Setting) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in GROUPS[:1] if setting.quick else GROUPS:
        group = importlib.import_module(f"stages.{name}").cli
        found.append((f"pkd-{name}", "--help"))
        found += [(f"pkd-{name}", command, "--help") for command in sorted(group.commands)]
    return found


def _work(words: tuple[str, ...], used: list[float]) -> Callable[[], None]:
    """Run the installed command; its processor time is appended to `used`."""
    program = Path(sys.executable).with_name(words[0])

    def run() -> None:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            actions = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), stream) for stream in (1, 2)]
            pid = os.posix_spawn(
                str(program), [str(program), *words[1:]], os.environ, file_actions=actions
            )
        _, status, usage = os.wait4(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, words
        used.append(usage.ru_utime + usage.ru_stime)

    return run
