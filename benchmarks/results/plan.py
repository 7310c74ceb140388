"""The plan of the runs, read from `plan.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PLAN = Path(__file__).with_name("plan.yaml")
OF_THE_PLAN = ("from", "round")  # keys of a method that are no options of a command


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of a table."""

    name: str
    settings: dict[str, Any]
    """Options of `pkd-student fit`."""
    labelled_only: bool
    """Trained from a cache of the labelled rows alone."""
    round: int = 1
    """Methods of a later round wait for all seeds of those before."""

    @property
    def strategy(self) -> str:
        """What choices of settings go by."""
        return str(self.settings["strategy"])


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings to choose from."""

    method: dict[str, Any]
    values: tuple[dict[str, Any], ...]
    strategies: frozenset[str]
    """That take the best of them over."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table: a task and what of its training rows there is."""

    name: str
    title: str
    task: str
    glue: str
    """Folder of GLUE's files."""
    rows: int | None
    labelled: int | None
    methods: tuple[Method, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it."""

    seeds: tuple[int, ...]
    encoders: dict[str, str]
    """Beginning of a folder's digest -> what it is."""
    hold_out: int
    teacher: dict[str, Any]
    student: dict[str, Any]
    experiments: tuple[Experiment, ...]
    teacher_values: tuple[dict[str, Any], ...]
    choices: tuple[Choice, ...]


def load_plan(path: Path = PLAN) -> Plan:
    """Read it."""
    content = yaml.safe_load(path.read_text("utf-8"))
    return Plan(
        seeds=tuple(content["seeds"]),
        encoders={str(key): name for key, name in (content.get("encoders") or {}).items()},
        hold_out=content["hold_out"],
        teacher=content["teacher"],
        student=content["student"],
        experiments=tuple(_experiment(*each) for each in content["experiments"].items()),
        teacher_values=tuple(content["choose"]["teacher"]),
        choices=tuple(
            Choice(
                method=each["method"],
                values=tuple(each["values"]),
                strategies=frozenset(each["for"]),
            )
            for each in content["choose"]["students"]
        ),
    )


def _experiment(name: str, content: Mapping[str, Any]) -> Experiment:
    return Experiment(
        name=name,
        title=content["title"],
        task=content["task"],
        glue=content["glue"],
        rows=content.get("rows"),
        labelled=content.get("labelled"),
        methods=tuple(
            Method(
                name=method,
                settings={key: each for key, each in settings.items() if key not in OF_THE_PLAN},
                labelled_only=settings.get("from") == "labelled",
                round=settings.get("round", 1),
            )
            for method, settings in content["methods"].items()
        ),
    )
