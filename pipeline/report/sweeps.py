"""Results of sweeps, from `sweep-NAME.json`: which parameters mattered, and which students won."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.errors import DataError
from pipeline.report.fields import mapping, number, text
from pipeline.report.load import read_record
from pipeline.report.records import Skipped

LEAST_TRIALS = 4
"""A share of the variance of fewer scores says nothing."""
TREES_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One student of a sweep."""

    student: str
    score: float
    point: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep's result."""

    name: str
    metric: str
    space: Mapping[str, Mapping[str, Any]]
    """Parameter -> {"values": [...]}, or {"low", "high", "log"}."""
    trials: tuple[Trial, ...]
    """The best first."""
    failed: int
    importance: Mapping[str, float]
    """Share of the explained variance of the score, the largest first; sums to 1. Empty where it
    cannot be told, and `doubt` says why."""
    doubt: str

    def means(self, parameter: str) -> list[tuple[Any, float]]:
        """Each value that was tried and the mean score with it, the best first."""
        scores: dict[str, tuple[Any, list[float]]] = {}
        for trial in self.trials:
            value = trial.point[parameter]
            scores.setdefault(repr(value), (value, []))[1].append(trial.score)
        return sorted(((v, fmean(found)) for v, found in scores.values()), key=lambda e: -e[1])


def load_sweeps(metrics: Path, task: str) -> tuple[list[Sweep], list[Skipped]]:
    """Read every sweep of a task, by name.

    Returns:
        The sweeps, and the files that are none, with the reason; those of other tasks are in
        neither.
    """
    found, skipped = [], []
    for path in sorted(metrics.glob("sweep-*.json")):
        try:
            record = read_record(path)
            if record.get("task") == task:
                found.append(parse_sweep(record))
        except DataError as error:
            skipped.append(Skipped(name=path.name, reason=str(error)))
    return found, skipped


def parse_sweep(record: Mapping[str, Any]) -> Sweep:
    """Check a sweep's record; raises DataError naming the field."""
    if "points" not in record:
        raise DataError(
            "it does not say what each student was; the same `pkd-student sweep` command writes it "
            "again and trains nothing"
        )
    scores, points, space = (mapping(record, key) for key in ("scores", "points", "space"))
    kinds = {name: mapping(space, name) for name in space}
    trials = []
    for student in scores:
        point = mapping(points, student)
        if set(point) != set(space) or not all(_fits(point, name, kinds[name]) for name in kinds):
            raise DataError(f"`points` of {student} are not of `space`")
        trials.append(Trial(student=student, score=number(scores, student), point=point))
    trials.sort(key=lambda trial: -trial.score)
    importance, doubt = _importance(kinds, trials)
    return Sweep(
        name=text(record, "name"),
        metric=text(record, "metric"),
        space=kinds,
        trials=tuple(trials),
        failed=len(mapping(record, "failed")),
        importance=importance,
        doubt=doubt,
    )


def _fits(point: Mapping[str, Any], name: str, kind: Mapping[str, Any]) -> bool:
    values = kind.get("values")
    if isinstance(values, list):
        return repr(point[name]) in map(repr, values)
    return number(kind, "low") <= number(point, name) <= number(kind, "high")


def _importance(
    space: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial]
) -> tuple[dict[str, float], str]:
    """By fANOVA (Hutter et al. 2014): the variance of a forest's prediction that each explains."""
    if len(trials) < LEAST_TRIALS:
        return {}, f"{len(trials)} students are too few to say which parameter mattered"
    if len({trial.score for trial in trials}) == 1:
        return {}, "all students have the same score"
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        distributions = {name: _distribution(kind) for name, kind in space.items()}
        for trial in trials:
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(trial.point), distributions=distributions, value=trial.score
                )
            )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=TREES_SEED)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator)), ""
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DataError(f"its points are not of its space ({error})") from None


def _distribution(kind: Mapping[str, Any]) -> Any:
    """As `pipeline.sweep.study.suggest` draws it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if "values" not in kind:
        return FloatDistribution(kind["low"], kind["high"], log=bool(kind["log"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that a storage could not keep
        return CategoricalDistribution(kind["values"])
