"""Groups of runs and their numbers: mean and standard deviation over seeds, share kept. Pure."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from pipeline.report.records import StudentRun

STRATEGY_ORDER = (
    "finetune", "kd", "skip", "last", "auto", "reverse", "all-to-one", "emd", "rail", "alp",
)  # fmt: skip
AT_MOST = 12  # groups in one panel


@dataclass(frozen=True)
class Sample:
    """A score over seeds."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); None with one run."""
        return stdev(self.values) if self.n > 1 else None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in nothing but the seed: one row of a table."""

    strategy: str
    depth: int
    variant: str
    """What sets this group apart from others of the same strategy and depth; mostly empty."""
    runs: tuple[StudentRun, ...]
    """By seed."""

    @property
    def score(self) -> Sample:
        """The main metric."""
        return Sample(tuple(run.score for run in self.runs))

    @property
    def kept(self) -> float | None:
        """Mean share of the teacher's score, 1.0 = all; None where any run has none."""
        shares = [run.kept for run in self.runs]
        known = [share for share in shares if share is not None]
        return fmean(known) if len(known) == len(shares) else None

    @property
    def label(self) -> str:
        """`skip`, `layers 2,4`, `auto 3,4`, or `skip (beta=10)`."""
        name = f"layers {self.strategy}" if self.strategy[:1].isdigit() else self.strategy
        if self.strategy == "auto" and len(maps := {run.layer_map for run in self.runs}) == 1:
            (pairs,) = maps
            name += f" {','.join(str(teacher) for _, teacher in pairs)}" if pairs else ""
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def key(self) -> str:
        """`skip-3`: the name in the metrics file."""
        return f"{self.strategy}-{self.depth}" + (f" {self.variant}" if self.variant else "")

    def other(self, split: str, metric: str) -> Sample | None:
        """A further metric, when every run has it."""
        values = [run.scores.get(split, {}).get(metric) for run in self.runs]
        known = tuple(value for value in values if value is not None)
        return Sample(known) if len(known) == len(values) else None


def by_task(runs: Iterable[StudentRun]) -> dict[str, list[StudentRun]]:
    """Runs of each task, tasks by name."""
    found: dict[str, list[StudentRun]] = defaultdict(list)
    for run in runs:
        found[run.task].append(run)
    return {task: found[task] for task in sorted(found)}


def group_runs(runs: Iterable[StudentRun]) -> list[Group]:
    """Group one task's runs by depth, strategy and whatever else differs, in the order of tables.

    Runs with other parameters (a sweep's trials) are never averaged as if they were seeds.
    """
    cells: dict[tuple[int, str], list[StudentRun]] = defaultdict(list)
    for run in runs:
        cells[run.depth, run.strategy].append(run)
    order = sorted(cells, key=lambda cell: (cell[0], strategy_rank(cell[1])))
    return [group for cell in order for group in _variants(cells[cell])]


def strategy_rank(strategy: str) -> tuple[int, str]:
    """Sort key: known strategies in the order of the methods, then others by name."""
    known = strategy in STRATEGY_ORDER
    return (STRATEGY_ORDER.index(strategy) if known else len(STRATEGY_ORDER), strategy)


def readable(groups: Sequence[Group]) -> list[Group]:
    """The groups for one panel: all, or the best of each strategy and depth when too many."""
    if len({group.label for group in groups}) <= AT_MOST:
        return list(groups)
    best: dict[tuple[int, str], Group] = {}
    for group in groups:
        cell = (group.depth, group.strategy)
        if cell not in best or group.score.mean > best[cell].score.mean:
            best[cell] = group
    return list(best.values())


def _variants(runs: Sequence[StudentRun]) -> list[Group]:
    differing = _differing(runs)
    cells: dict[str, list[StudentRun]] = defaultdict(list)
    for run in runs:
        cells[_variant(run, differing)].append(run)
    return [
        Group(
            strategy=runs[0].strategy,
            depth=runs[0].depth,
            variant=variant,
            runs=tuple(sorted(cells[variant], key=lambda run: (run.seed, run.name))),
        )
        for variant in sorted(cells)
    ]


def _differing(runs: Sequence[StudentRun]) -> list[str]:
    names = {name for run in runs for name in run.settings}
    return sorted(n for n in names if len({_plain(run.settings.get(n)) for run in runs}) > 1)


def _variant(run: StudentRun, names: Sequence[str]) -> str:
    return ", ".join(f"{name}={_plain(run.settings.get(name))}" for name in names)


def _plain(value: Any) -> str:
    """A setting in a few characters: digests are cut to eight, a map is `1:2 2:4`, names `a b`."""
    if isinstance(value, str):
        return value[:8] if len(value) == 64 else value
    if isinstance(value, list) and value and all(isinstance(pair, list) for pair in value):
        return " ".join(":".join(str(layer) for layer in pair) for pair in value)
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return " ".join(value)
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class Comparison:
    """How far one sample is above another, measured in seed noise."""

    gap: float
    noise: float | None
    """Pooled standard deviation over seeds; None when either side has one seed."""
    significant: bool
    """Welch's t-test at 95 %, two-sided."""

    @property
    def within_noise(self) -> bool:
        """Whether the gap is at most one standard deviation."""
        return self.noise is not None and self.gap <= self.noise


def compare(better: Sample, worse: Sample) -> Comparison:
    """Compare two samples of scores; `better` has the higher mean."""
    gap = better.mean - worse.mean
    if better.std is None or worse.std is None:
        return Comparison(gap, None, significant=False)
    noise = math.sqrt((better.std**2 + worse.std**2) / 2)
    return Comparison(gap, noise, significant=_welch(gap, better, worse))


def _welch(gap: float, one: Sample, other: Sample) -> bool:
    from scipy.stats import t

    parts = [(sample.std or 0.0) ** 2 / sample.n for sample in (one, other)]
    error = math.sqrt(sum(parts))
    if error == 0.0:
        return gap > 0
    weights = [part**2 / (sample.n - 1) for part, sample in zip(parts, (one, other), strict=True)]
    freedom = sum(parts) ** 2 / sum(weights)
    return gap / error > float(t.ppf(0.975, freedom))
