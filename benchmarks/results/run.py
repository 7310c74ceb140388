"""Making the runs: each through the project's own commands, each recorded when it is done."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.results.data import labelled_and_not, without_held_out, write_source
from benchmarks.results.plan import Choice, Experiment, Method, Plan
from benchmarks.results.records import Record, Records

WORK = Path("data/results")
FACTS = (
    "parameters", "parameters_expanded", "block_passes", "train_rows", "labelled_rows", "device",
    "threads", "precision", "best_epoch", "layers", "base",
)  # fmt: skip


def command(stage: str, *words: str) -> dict[str, Any]:
    """Run one of our commands with --json; its progress goes to the terminal."""
    line = [str(Path(sys.executable).with_name(f"pkd-{stage}")), *words, "--json"]
    print("$", " ".join(line[1:]), flush=True)
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of a command."""
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]


@dataclass(frozen=True)
class Stage:
    """The data of one phase, its teacher and its caches, made when they are asked for."""

    experiment: Experiment
    phase: str
    """choice or final."""
    init: str
    folder: Path

    def data(self, labelled_only: bool) -> Path:
        """Prepared data: of the labelled rows, or with the others behind them."""
        source, out = self.folder / "source", self.folder / f"raw-{_rows(labelled_only)}"
        more = [] if labelled_only else [f"--unlabelled={source / 'unlabelled.parquet'}"]
        if not (source / "unlabelled.parquet").exists():
            more = []
        command(
            "data", "prepare", f"--task={self.experiment.task}", f"--source={source}",
            f"--out={out}", *more,
        )  # fmt: skip
        return out

    def teacher(self, settings: Mapping[str, Any], name: str) -> tuple[Path, dict[str, Any]]:
        """Fine-tune a teacher on the labelled rows."""
        out = self.folder / f"teacher-{name}"
        record = command(
            "teacher", "fit", f"--task={self.experiment.task}", f"--init={self.init}",
            f"--data={self.data(labelled_only=True)}", f"--out={out}", "--resume", *flags(settings),
        )  # fmt: skip
        return out, record

    def cache(self, teacher: Path, labelled_only: bool) -> Path:
        """The teacher's cache; of all rows it takes over those of the labelled ones."""
        out = self.folder / f"{teacher.name}-{_rows(labelled_only)}.zarr"
        more = [] if labelled_only else [f"--reuse={self.cache(teacher, labelled_only=True)}"]
        data = self.data(labelled_only)
        if (out / "manifest.json").exists():
            return out
        command(
            "cache", "build", f"--task={self.experiment.task}", f"--teacher={teacher}",
            f"--data={data}", f"--out={out}", "--allow-weak-teacher", *more,
        )  # fmt: skip
        return out

    def student(self, cache: Path, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Train a student; its weights are not kept."""
        out = self.folder / "student"
        record = command(
            "student", "fit", f"--cache={cache}", f"--init={self.init}", f"--out={out}",
            f"--seed={seed}", "--overwrite", *flags(settings),
        )  # fmt: skip
        shutil.rmtree(out)
        return record


def _rows(labelled_only: bool) -> str:
    return "labelled" if labelled_only else "all"


def prepare_stages(experiment: Experiment, plan: Plan, glue: Path, init: str) -> dict[str, Stage]:
    """Write the rows of both phases."""
    whole = WORK / experiment.name / "raw"
    command(
        "data", "prepare", f"--task={experiment.task}", f"--source={glue / experiment.glue}",
        f"--out={whole}",
    )  # fmt: skip
    tables = {path.stem: pq.read_table(path) for path in whole.glob("*.parquet")}
    labelled, others = labelled_and_not(tables["train"], experiment.rows, experiment.labelled)
    stages = {}
    for phase in ("choice", "final"):
        train, validation = labelled, tables["validation"]
        if phase == "choice":
            train, validation = without_held_out(labelled, plan.hold_out)
        folder = WORK / experiment.name / phase
        write_source(folder / "source", train, validation, others)
        stages[phase] = Stage(experiment, phase, init, folder)
    return stages


class Runs:
    """The runs of one experiment, those that are missing in its records."""

    def __init__(self, plan: Plan, stages: dict[str, Stage], records: Records) -> None:
        self.plan, self.stages, self.records = plan, stages, records

    def all(self) -> None:
        """Choose settings, then make every run of the table, seed by seed."""
        teacher, by_strategy = self.choose()
        methods = self.stages["final"].experiment.methods
        turns = itertools.product(sorted({each.round for each in methods}), self.plan.seeds)
        for (turn, seed), method in itertools.product(turns, methods):
            if method.round == turn:
                chosen = by_strategy.get(method.strategy, {})
                settings = {**self.plan.student, **chosen, **method.settings}
                self._student("final", teacher, method, settings, seed)

    def choose(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The teacher's settings and those of each strategy, by held-out training rows."""
        found = [self._teacher("choice", values) for values in self.plan.teacher_values]
        teacher = self.plan.teacher_values[_best(found)]
        by_strategy: dict[str, dict[str, Any]] = {}
        for choice in self.plan.choices:
            if choice.method["strategy"] in self._strategies():
                best = self._choose(choice, teacher, by_strategy)
                for strategy in choice.strategies:
                    by_strategy[strategy] = by_strategy.get(strategy, {}) | best
        return teacher, by_strategy

    def _strategies(self) -> set[str]:
        return {method.strategy for method in self.stages["final"].experiment.methods}

    def _choose(
        self, choice: Choice, teacher: dict[str, Any], so_far: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        strategy = choice.method["strategy"]
        method = Method(name=strategy, settings=choice.method, labelled_only=True)
        found = []
        for values in choice.values:
            settings = self.plan.student | so_far.get(strategy, {}) | choice.method | values
            found.append(self._student("choice", teacher, method, settings, seed=0))
        return choice.values[_best(found)]

    def _teacher(self, phase: str, values: dict[str, Any]) -> Record:
        settings = self.plan.teacher | values
        if known := self.records.find(phase, "teacher", 0, settings):
            return known
        _, run = self.stages[phase].teacher(settings, _name(values))
        return self._recorded(phase, "teacher", 0, settings, run)

    def _student(
        self,
        phase: str,
        teacher: dict[str, Any],
        method: Method,
        settings: dict[str, Any],
        seed: int,
    ) -> Record:
        if known := self.records.find(phase, method.name, seed, settings):
            return known
        self._teacher(phase, teacher)
        stage = self.stages[phase]
        folder, _ = stage.teacher(self.plan.teacher | teacher, _name(teacher))
        run = stage.student(stage.cache(folder, method.labelled_only), settings, seed)
        return self._recorded(phase, method.name, seed, settings, run)

    def _recorded(
        self, phase: str, method: str, seed: int, settings: dict[str, Any], run: dict[str, Any]
    ) -> Record:
        record = Record(
            phase=phase,
            method=method,
            seed=seed,
            settings=settings,
            scores=_main_first(next(iter(run["scores"].values())), run["metric"]),
            seconds=run["seconds"] + ((run.get("pretrain") or {}).get("seconds") or 0),
            facts={key: run[key] for key in FACTS if key in run},
        )
        self.records.add(record)
        return record


def _main_first(scores: Mapping[str, float], metric: str) -> dict[str, float]:
    """A command's JSON has them by name; records have the task's own order."""
    return {metric: scores[metric], **scores}


def _name(values: Mapping[str, Any]) -> str:
    return "-".join(f"{value:g}" for value in values.values())


def _best(found: list[Record]) -> int:
    """The first of the best."""
    return max(range(len(found)), key=lambda place: (found[place].main, -place))
