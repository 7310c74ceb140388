"""The trials of a sweep in an Optuna storage, which several processes and machines may share."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError, TrainingError
from pipeline.sweep.space import Range, Space, describe_space

TAKEN = ("COMPLETE", "RUNNING", "WAITING")  # states of a trial that nobody else should make
QUEUED = "queued"  # mark of a grid's own trials
HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120  # a worker that is silent for so long is dead
LOCK_SECONDS = 60  # that a worker waits for another's transaction


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What makes two commands work on the same sweep."""

    name: str
    storage: str
    """URL of a database."""
    sampler: str
    trials: int | None
    """Of a search; None = every point of the grid."""
    space: Space
    seed: int
    identity: dict[str, Any]
    """Cache and fixed parameters; a study of others is refused."""


def default_storage(folder: Path) -> str:
    """A SQLite file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'sweeps.db'}"


@contextmanager
def opened_study(plan: StudyPlan, *, overwrite: bool = False) -> Iterator[Any]:
    """Create or join the study; its connections are closed at the end.

    Args:
        plan: what it is of.
        overwrite: forget a study of that name of something else.

    Raises:
        ParamsError: a storage that cannot be opened, or a study of that name of something else.
        TrainingError: a storage that goes away while it is in use.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with ExitStack() as stack:
        try:
            storage = _storage(plan.storage)
            stack.callback(_close, storage)
            study = _joined(plan, storage)
            if overwrite and _difference(study, plan):
                optuna.delete_study(study_name=plan.name, storage=storage)
                study = _joined(plan, storage)
        except _storage_errors() as error:
            raise ParamsError(f"--storage {_public(plan.storage)}: {error}") from None
        if problem := _difference(study, plan):
            raise ParamsError(
                f"Sweep {plan.name} is there with another {problem}. Choose another --name, or "
                "pass --overwrite."
            )
        try:
            yield study
        except _lost() as error:
            raise TrainingError(
                f"--storage {_public(plan.storage)}: {str(error).splitlines()[0]}. What is "
                "finished is kept; the same command goes on."
            ) from None


def _lost() -> tuple[type[Exception], ...]:
    """What a storage raises that goes away in the middle."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return StorageInternalError, SQLAlchemyError


def _joined(plan: StudyPlan, storage: Any) -> Any:
    import optuna

    study = optuna.create_study(
        study_name=plan.name,
        storage=storage,
        sampler=_sampler(plan),
        direction="maximize",
        load_if_exists=True,
    )
    if "plan" not in study.user_attrs:
        study.set_user_attr("plan", _described(plan))
    return study


def _described(plan: StudyPlan) -> dict[str, Any]:
    """What a study is of, as a storage gives it back."""
    content = {"space": describe_space(plan.space), "sampler": plan.sampler, **plan.identity}
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _difference(study: Any, plan: StudyPlan) -> str | None:
    """The first thing in which a study is another one: its name, and both values."""
    there, now = study.user_attrs["plan"], _described(plan)
    for field in {**there, **now}:
        if there.get(field) != now.get(field):
            return f"{field}: {_short(there.get(field))}, now {_short(now.get(field))}"
    return None


def _close(storage: Any) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _storage(url: str) -> Any:
    import optuna

    engine = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite:") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            url, engine, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS
        )
    if url.startswith("sqlite:"):
        _lock_whole_transactions(storage.engine)
    return storage


def _lock_whole_transactions(engine: Any) -> None:
    """Keep two workers from taking one trial.

    Optuna looks whether a trial waits and then takes it, under SELECT FOR UPDATE, which SQLite does
    not have; and Python's driver begins a transaction only at the first change.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections of before


def _storage_errors() -> tuple[type[Exception], ...]:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    return (ImportError, ValueError, optuna.exceptions.OptunaError, SQLAlchemyError)


def _public(url: str) -> str:
    """A URL without its password."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _sampler(plan: StudyPlan) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    from pipeline.sweep.draws import DrawnByNumber

    kind = TPESampler if plan.sampler == "tpe" else RandomSampler
    return DrawnByNumber(lambda seed: kind(seed=seed), plan.seed)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def enqueue_missing(study: Any, points: Sequence[dict[str, Any]], *, alone: bool) -> int:
    """Queue the points of a grid that nobody has finished, works on, or has queued.

    Args:
        study: from `opened_study`.
        points: all of the grid.
        alone: no other command works on the study, so what seems to run was killed.

    Returns:
        How many points are finished.
    """
    import optuna
    from optuna.trial import TrialState

    if alone:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
    states: dict[str, list[dict[str, Any]]] = {state: [] for state in TAKEN}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name in TAKEN:
            states[trial.state.name].append(point_of(trial))
    for point in points:
        if not any(point in of_state for of_state in states.values()):
            study.enqueue_trial(point, user_attrs={QUEUED: True})
    done = states["COMPLETE"]
    return sum(point in done for point in points) if points else len(done)


def point_of(trial: Any) -> dict[str, Any]:
    """The parameters of a trial, also of one that only waits."""
    return dict(trial.system_attrs.get("fixed_params") or trial.params)


def has_more(study: Any, plan: StudyPlan) -> bool:
    """Whether a trial is left for whoever asks."""
    from optuna.trial import TrialState

    if plan.sampler == "grid":
        return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    return _drawn_before(study, None) < (plan.trials or 0)


def is_surplus(study: Any, plan: StudyPlan, trial: Any) -> bool:
    """Whether a trial is not to be made.

    Of a search, and of a grid whose queue was empty: others took the last ones after `has_more`. Of
    a grid, also a point that two machines queued at the same moment, but for its first trial.
    """
    if plan.sampler == "grid":
        return QUEUED not in trial.user_attrs or _is_repeated(study, trial.number)
    return _drawn_before(study, trial.number) >= (plan.trials or 0)


def _is_repeated(study: Any, number: int) -> bool:
    trials = study.get_trials(deepcopy=False)
    point = point_of(trials[number])
    return any(
        each.state.name in TAKEN and point_of(each) == point
        for each in trials
        if each.number < number
    )


def _drawn_before(study: Any, number: int | None) -> int:
    """Trials that count, all or those of a lower number; one that was killed is drawn again."""
    return sum(
        each.state.name in ("COMPLETE", "RUNNING") or "error" in each.user_attrs
        for each in study.get_trials(deepcopy=False)
        if number is None or each.number < number
    )


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """The values of a trial."""
    return {
        name: _drawn(trial, name, values)
        if isinstance(values, Range)
        else trial.suggest_categorical(name, list(values.values))
        for name, values in space.items()
    }


def _drawn(trial: Any, name: str, ends: Range) -> float | int:
    if ends.whole:
        whole: int = trial.suggest_int(name, int(ends.low), int(ends.high), log=ends.log)
        return whole
    number: float = trial.suggest_float(name, ends.low, ends.high, log=ends.log)
    return number
