"""Records of finished runs: one line of JSON each, in `docs/results/<experiment>.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path("docs/results")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run."""

    phase: str
    """choice (scored on held-out training rows) or final (on the dev set)."""
    method: str
    """Name of the method; `teacher`."""
    seed: int
    settings: dict[str, Any]
    """All that the plan and the choices say of it."""
    scores: dict[str, float]
    """Of the first validation split; the task's first metric comes first."""
    seconds: float
    """Training, pretraining included; not the teacher's pass."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Rows, parameters, device and the like, as the run recorded them."""

    @property
    def main(self) -> float:
        """The task's first metric."""
        return next(iter(self.scores.values()))


class Records:
    """The records of one experiment; a run that is among them is not made again."""

    def __init__(self, experiment: str, folder: Path = FOLDER) -> None:
        self.path = folder / f"{experiment}.jsonl"

    def __iter__(self) -> Iterator[Record]:
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                yield Record(**json.loads(line))

    def find(self, phase: str, method: str, seed: int, settings: dict[str, Any]) -> Record | None:
        """The record of a run, if it was made."""
        wanted = (phase, method, seed, settings)
        for each in self:
            if (each.phase, each.method, each.seed, each.settings) == wanted:
                return each
        return None

    def require_encoder(self, digest: str | None) -> None:
        """Refuse to add runs of one encoder to those of another; raises SystemExit."""
        for each in self:
            base = each.facts.get("base")
            if base and base["digest"] != digest:
                raise SystemExit(
                    f"{self.path}: holds runs of the encoder {base['name']} "
                    f"({str(base['digest'])[:8]}), --init is another one ({str(digest)[:8]}). Name "
                    "another folder with --records, or move the file away."
                )

    def add(self, record: Record) -> None:
        """Append one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
