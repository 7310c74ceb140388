"""A process of its own that reads made-up caches.

It has little memory and is watched: a crash, a hang or a blow-up is an outcome, and not the end of
the tests. `python -m tests.support.victim SOUND` reads SOUND, then the caches that are named on
standard input, and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.errors import PipelineError
from pipeline.store.check import check_cache
from pipeline.store.reader import TeacherCache
from tests.support.hostile import sha256

ROOT = Path(__file__).parents[2]
ROOM_BYTES = 3 << 29  # 1.5 GiB over what a victim has when it has read a sound cache
LONGEST_MESSAGE = 700
CPU_SECONDS, GROWN_MB = 1.0, 100.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What one step raised."""

    kind: str
    text: str
    ours: bool
    """Whether it is an error for people."""


@dataclass(kw_only=True)
class Report:
    """What became of a reader of one cache."""

    values: dict[str, str] = field(default_factory=dict)
    """Step -> sha256 of what it read."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """Step -> its error; "process" when it died or did not answer."""
    findings: list[tuple[str, str]] = field(default_factory=list)
    """(file, problem) that `verify` found."""
    cpu_seconds: float = 0.0
    grown_mb: float = 0.0
    """Largest resident memory beyond that before."""

    @property
    def verified(self) -> bool:
        """Whether `verify` calls it sound."""
        return not self.findings and "verify" not in self.failures

    @property
    def texts(self) -> list[str]:
        """Every message that a person could see."""
        found = [f"{name}: {problem}" for name, problem in self.findings]
        return [*found, *(each.text for each in self.failures.values())]

    def flaws(self) -> list[str]:
        """Outcomes that are never allowed: anything but an error of ours, on one plain line."""
        found = [f"{step}: {e.kind}: {e.text}" for step, e in self.failures.items() if not e.ours]
        bad = [t for t in self.texts if not t.isprintable() or len(t) > LONGEST_MESSAGE]
        return found + [f"not one plain line: {text[:2000]!a}" for text in bad]


def examine(path: Path) -> Report:
    """Open a cache, read all of it, verify it."""
    report, start = Report(), time.process_time()
    before = _reset_peak_kb()
    cache = _step(report, "open", lambda: TeacherCache.open(path))
    if cache:
        for split in cache.splits:
            _read_split(report, cache, split)
    found = _step(report, "verify", lambda: check_cache(path)) or []
    report.findings = [(each.file, each.problem) for each in found]
    report.cpu_seconds = time.process_time() - start
    report.grown_mb = max(0, _status_kb("VmHWM") - before) / 1024
    return report


def _read_split(report: Report, cache: TeacherCache, split: str) -> None:
    def read(step: str, values: Callable[[], Any], raw: Callable[[Any], bytes]) -> None:
        found = _step(report, f"{split}.{step}", values)
        if found is not None:
            report.values[f"{split}.{step}"] = sha256(raw(found))

    read("examples", lambda: cache.examples(split), lambda t: repr(t.to_pydict()).encode())
    read("logits", lambda: cache.logits(split), lambda values: bytes(values.tobytes()))
    layers = cache.manifest.layers
    read("cls", lambda: cache.cls(split, layers), lambda values: bytes(values.tobytes()))


def _step(report: Report, name: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
        ours = isinstance(error, PipelineError)
        kind = f"{type(error).__module__}.{type(error).__name__}"
        report.failures[name] = Failure(kind=kind, text=str(error), ours=ours)
        return None


def _status_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def _reset_peak_kb() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _status_kb("VmRSS")


class Victim:
    """A process that reads caches in little memory, started again whenever it dies.

    Args of the constructor:
        sound: a cache to read first: libraries and threads are there before memory is limited.
        patience: seconds before it counts as hanging.
        code: what it runs in the place of this module's `main`.
    """

    def __init__(self, sound: Path, patience: float = 20.0, code: str | None = None) -> None:
        self.patience = patience
        self.command = [sys.executable, "-m", "tests.support.victim", str(sound)]
        if code:
            self.command[1:3] = ["-c", code]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._stop()

    def examine(self, path: Path) -> Report:
        """What reading and verifying a cache comes to."""
        if self._process is None:
            self._start()
        answer = self._ask(path)
        if answer is None:
            status = self._stop()
            how = "no answer in time" if status is None else f"died, status {status}"
            failure = Failure(kind="process", text=how, ours=False)
            return Report(failures={"process": failure})
        failures = {step: Failure(**each) for step, each in answer.pop("failures").items()}
        findings = [(name, problem) for name, problem in answer.pop("findings")]
        return Report(**answer, failures=failures, findings=findings)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._line(60.0) == b"ready\n"

    def _ask(self, path: Path) -> dict[str, Any] | None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(os.fsencode(path) + b"\n")
        line = self._line(self.patience)
        return json.loads(line) if line.endswith(b"\n") else None

    def _line(self, seconds: float) -> bytes:
        """A line of its output; what there is of it once it has died or does not answer."""
        assert self._process
        assert self._process.stdout
        line, end = b"", time.monotonic() + seconds
        while not line.endswith(b"\n") and (left := end - time.monotonic()) > 0:
            if not select.select([self._process.stdout], [], [], left)[0]:
                break
            piece = os.read(self._process.stdout.fileno(), 1 << 16)
            if not piece:
                self._process.wait()
                break
            line += piece
        return line

    def _stop(self) -> int | None:
        """Its exit status if it had ended by itself."""
        assert self._process
        status = self._process.poll()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process = None
        return status


def require_cheap(report: Report) -> None:
    """Errors for people alone, within a second of computing and little memory."""
    assert report.flaws() == []
    assert report.cpu_seconds < CPU_SECONDS
    assert report.grown_mb < GROWN_MB


def require_refused(report: Report, step: str, pattern: str) -> None:
    """A step fails with a message, and `verify` is not content either."""
    require_cheap(report)
    assert step in report.failures, report
    assert re.search(pattern, report.failures[step].text), report.failures[step].text
    assert not report.verified


def main() -> None:
    """Read the caches that are named on standard input; answer each with one line of JSON."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    assert not examine(Path(sys.argv[1])).failures
    assert "torch" not in sys.modules
    warnings.simplefilter("error")
    room = _status_kb("VmSize") * 1024 + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    answers.write(b"ready\n")
    for line in sys.stdin.buffer:
        report = examine(Path(os.fsdecode(line.rstrip(b"\n"))))
        failures = {step: vars(each) for step, each in report.failures.items()}
        answer = vars(report) | {"failures": failures}
        answers.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
