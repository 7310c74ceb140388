"""pytest tests/pipeline/sweep/test_sweep.py - many students from one loaded cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file
from sqlalchemy import event

from pipeline.errors import CacheMismatchError, ParamsError, TrainingError
from pipeline.store.reader import TeacherCache
from pipeline.store.resident import ResidentCache
from pipeline.student.fit import fit_student
from pipeline.sweep.run import run_sweep
from pipeline.sweep.space import Range, Values, all_points, parse_space, slug
from pipeline.sweep.states import TrialState
from pipeline.sweep.study import StudyPlan, enqueue_missing, has_more, is_surplus, opened_study
from stages.student import cli
from tests.support.postgres import AVAILABLE, local_postgres
from tests.support.synthetic import LAYERS, write
from tests.support.tiny import STUDENT, World

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def sweep(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*settings: str, **more: Any) -> dict[str, Any]:
        base = replace(STUDENT, init=str(world.encoder), epochs=1, **more.pop("base", {}))
        given: dict[str, Any] = {"name": "s", "workers": 1, "out": tmp_path / "students"} | more
        return run_sweep(
            cache_path=world.cache16, space=parse_space(settings), base=base, sources={}, **given
        )

    return run


# --- what is tried -------------------------------------------------------------------------------


def test_values_and_ranges() -> None:
    space = parse_space(
        ["temperature=5,10", "strategy=skip;2,4", "normalize=true,false",
         "learning-rate=1e-5..1e-3:log", "alpha=0..1", "dropout=none,0.1",
         "epochs=2..5"],
        {"temperature": [1], "beta": [10, 100.0, 10]},
    )  # fmt: skip
    assert space == {
        "temperature": Values((5.0, 10.0)),
        "beta": Values((10.0, 100.0)),
        "strategy": Values(("skip", "2,4")),
        "normalize": Values((True, False)),
        "learning_rate": Range(1e-5, 1e-3, log=True),
        "alpha": Range(0.0, 1.0, log=False),
        "epochs": Range(2.0, 5.0, log=False, whole=True),
        "dropout": Values((None, 0.1)),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature", "expected NAME=VALUE"),
        ("temperature=", "expected NAME=VALUE"),
        ("temprature=5", r"unknown key `temprature`.*temperature"),
        ("alpha=0.5,2", "at most 1"),
        ("epochs=1.5", "expected a whole number"),
        ("strategy=1..2", "expected two numbers|expected text"),
        ("alpha=0.9..0.1", "the lower one first"),
        ("alpha=0..1:log", "above 0"),
        ("alpha=0..1:lin", "LOW..HIGH:log"),
        ("device=cpu,cuda", "changes no student"),
    ],
)
def test_what_cannot_be_tried_is_named(text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_space([text])


def test_every_point_of_a_grid_the_last_parameter_fastest() -> None:
    points = all_points(parse_space(["alpha=0.1,0.5", "epochs=1,2"]))
    assert [tuple(point.values()) for point in points] == [(0.1, 1), (0.1, 2), (0.5, 1), (0.5, 2)]
    with pytest.raises(ParamsError, match="--sampler tpe"):
        all_points(parse_space(["alpha=0..1"]))
    with pytest.raises(ParamsError, match="Nothing to try"):
        parse_space([])
    assert (
        slug({"strategy": "skip", "beta": 100.0, "alpha": 0.5}, ("strategy",))
        == "beta=100-alpha=0.5"
    )


def test_the_papers_grid_has_108_points_a_normalisation() -> None:
    from pipeline.presets import load_preset

    assert len(all_points(parse_space([], load_preset("pkd2019").grid))) == 3 * 3 * 3 * 4


# --- one loaded cache ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_resident_cache_gives_the_same_and_reads_nothing_again(
    tmp_path: Path, dtype: str
) -> None:
    write(tmp_path / "c.zarr", dtype=dtype, out_of_fold=("train",))
    cache = TeacherCache.open(tmp_path / "c.zarr")
    (tmp_path / "held").mkdir()
    expected = {
        "logits": cache.logits("train"), "unseen": cache.out_of_fold("train"),
        "cls": cache.cls("train", LAYERS[::-1]), "examples": cache.examples("train"),
    }  # fmt: skip
    held = ResidentCache.load(cache, tmp_path / "held", LAYERS, ["train"])
    (tmp_path / "c.zarr").rename(tmp_path / "away")
    np.testing.assert_array_equal(held.logits("train"), expected["logits"], strict=True)
    np.testing.assert_array_equal(held.out_of_fold("train"), expected["unseen"], strict=True)
    np.testing.assert_array_equal(held.cls("train", LAYERS[::-1]), expected["cls"], strict=True)
    assert held.examples("train").equals(expected["examples"])
    assert isinstance(held.stored("train", LAYERS, budget_bytes=0).values_RLH, np.memmap)
    assert not isinstance(held.stored("train", LAYERS).values_RLH, np.memmap)
    held.require_complete()


def test_layers_that_were_not_loaded_are_read_as_ever(tmp_path: Path) -> None:
    write(tmp_path / "c.zarr")
    cache = TeacherCache.open(tmp_path / "c.zarr")
    held = ResidentCache.load(cache, tmp_path, LAYERS[:1], ["train"])
    np.testing.assert_array_equal(held.cls("train", LAYERS), cache.cls("train", LAYERS))
    with pytest.raises(CacheMismatchError, match="layer 4 is not cached"):
        held.cls("train", [4])


# --- sweeps --------------------------------------------------------------------------------------


def test_a_grid_makes_the_students_that_fit_makes(sweep: Run, world: World, tmp_path: Path) -> None:
    told: list[list[TrialState]] = []
    result = sweep("strategy=kd,2", "seed=0,1", on_change=told.append)
    names = {f"rte-{strategy}-2-s{seed}" for strategy in ("kd", "2") for seed in (0, 1)}
    assert (
        set(result["scores"])
        == names
        == {path.name for path in (tmp_path / "students").glob("rte*")}
    )
    params = replace(STUDENT, init=str(world.encoder), epochs=1, strategy="2", seed=1)
    fit_student(cache_path=world.cache16, out=tmp_path / "alone", params=params, sources={})
    weights = load_file(tmp_path / "alone" / "model.safetensors")
    swept = load_file(tmp_path / "students" / "rte-2-2-s1" / "model.safetensors")
    assert all((swept[name] == weight).all() for name, weight in weights.items())
    record = json.loads((tmp_path / "students" / "rte-2-2-s1" / "run.json").read_text())
    assert record["params_from"] == {"strategy": "sweep s", "seed": "sweep s"}
    assert result["best"]["score"] == max(result["scores"].values())
    assert json.loads(Path("data/metrics/sweep-s.json").read_text()) == result
    assert [each.state for each in told[-1]] == ["complete"] * 4


def test_a_sweep_that_was_stopped_goes_on(sweep: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def stopping(**given: Any) -> Any:
        if len(made) == 1:
            raise KeyboardInterrupt
        return counted(**given)

    def counted(**given: Any) -> Any:
        made.append(given["out"].name)
        return fit_student(**given)

    monkeypatch.setattr("pipeline.sweep.worker.fit_student", stopping)
    with pytest.raises(KeyboardInterrupt):
        sweep("temperature=5,10,20")
    assert made == ["rte-skip-2-s0-temperature=5"]
    monkeypatch.setattr("pipeline.sweep.worker.fit_student", counted)
    result = sweep("temperature=5,10,20")
    assert len(result["scores"]) == 3
    assert sorted(made[1:]) == ["rte-skip-2-s0-temperature=10", "rte-skip-2-s0-temperature=20"]
    sweep("temperature=5,10,20")
    assert len(made) == 3


def test_a_student_that_fails_does_not_stop_the_others(sweep: Run) -> None:
    result = sweep("learning_rate=1e-3,1e9", base={"max_grad_norm": 0.0})
    assert list(result["scores"]) == ["rte-skip-2-s0-learning_rate=0.001"]
    ((name, error),) = result["failed"].items()
    assert name == "rte-skip-2-s0-learning_rate=1e+09"
    assert "the loss is not finite" in error


def test_two_workers_share_the_work(sweep: Run, world: World, tmp_path: Path) -> None:
    result = sweep("seed=0,1,2", workers=2)
    assert len(result["scores"]) == 3
    alone = sweep("seed=2", name="alone", out=tmp_path / "alone")
    assert alone["scores"]["rte-skip-2-s2"] == result["scores"]["rte-skip-2-s2"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_two_workers_never_take_one_trial(tmp_path: Path) -> None:
    plan = StudyPlan(
        name="s", storage=f"sqlite:///{tmp_path / 's.db'}", sampler="grid", trials=None,
        space={"seed": Values((0, 1))}, seed=0, identity={},
    )  # fmt: skip
    with opened_study(plan) as one, opened_study(plan) as other:
        enqueue_missing(one, [{"seed": 0}, {"seed": 1}], alone=True)
        taken: list[int] = []
        second = Thread(target=lambda: taken.append(other.ask().number))

        @event.listens_for(one._storage._backend.engine, "before_cursor_execute")
        def before(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
            # `one` has seen that a trial waits, and is about to take it
            if statement.startswith("UPDATE trials") and not second.ident:
                second.start()
                second.join(1)

        taken.append(one.ask().number)
        second.join()
    assert sorted(taken) == [0, 1]


def test_a_sampler_draws_so_many(sweep: Run) -> None:
    result = sweep("learning_rate=1e-4..1e-2:log", sampler="tpe", trials=3)
    assert len(result["scores"]) == 3
    assert len(sweep("learning_rate=1e-4..1e-2:log", sampler="tpe", trials=3)["scores"]) == 3
    with pytest.raises(ParamsError, match="--sampler random: say how many with --trials"):
        sweep("learning_rate=1e-4..1e-2:log", sampler="random", name="r")


def test_a_range_of_whole_numbers_gives_whole_numbers(sweep: Run) -> None:
    result = sweep("epochs=1..2", sampler="random", trials=2)
    assert not result["failed"]
    assert all(type(point["epochs"]) is int for point in result["points"].values())


def test_a_student_that_failed_once_and_is_made_later_is_no_failure(
    sweep: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: Any) -> Any:
        raise TrainingError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.sweep.worker.fit_student", failing)
        assert list(sweep("seed=0")["failed"].values()) == ["no room"]
    mended = sweep("seed=0")
    assert (list(mended["scores"]), mended["failed"]) == (["rte-skip-2-s0"], {})


def test_another_sweep_of_that_name_is_refused(sweep: Run) -> None:
    sweep("seed=0")
    with pytest.raises(ParamsError, match=r"Sweep s is there with another space.*--name"):
        sweep("seed=1")
    with pytest.raises(ParamsError, match=r"another params: .*, now .*--overwrite"):
        sweep("seed=0", base={"alpha": 0.3})
    result = sweep("seed=0,1", base={"alpha": 0.3}, overwrite=True)
    assert len(result["scores"]) == 2


def test_what_cannot_be_is_refused_before_any_student_is_made(sweep: Run, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="Unknown strategy `skp`"):
        sweep("strategy=kd,skp")
    with pytest.raises(ParamsError, match=r"--storage nowhere://host/x: .*"):
        sweep("seed=0", storage="nowhere://me:secret@host/x")
    assert not (tmp_path / "students").exists()


# --- several machines ----------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shared.db'}"
    elif not AVAILABLE:
        pytest.skip("PostgreSQL's programs are not installed")
    else:
        with local_postgres() as url:
            yield url


def test_machines_share_a_storage(sweep: Run, storage: str, tmp_path: Path) -> None:
    """Each takes what the other has not: as two machines would, one after the other, then both."""
    first = sweep("seed=0,1", storage=storage, out=tmp_path / "one")
    second = sweep("seed=0,1", storage=storage, out=tmp_path / "two")
    assert first["scores"] == second["scores"]
    assert not (tmp_path / "two").exists()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_what_another_machine_works_on_is_left_to_it(storage: str) -> None:
    space = parse_space(["seed=0,1,2"])
    plan = StudyPlan(
        name="s", storage=storage, sampler="grid", trials=None, space=space, seed=0, identity={}
    )
    with opened_study(plan) as here, opened_study(plan) as there:
        assert enqueue_missing(here, all_points(space), alone=False) == 0
        taken = here.ask()
        assert enqueue_missing(there, all_points(space), alone=False) == 0
        others = [there.ask(), here.ask()]
        assert {trial.suggest_categorical("seed", [0, 1, 2]) for trial in (taken, *others)} == {
            0,
            1,
            2,
        }
        assert not any(is_surplus(here, plan, trial) for trial in (taken, *others))
        assert not has_more(here, plan)
        assert is_surplus(here, plan, here.ask())  # the queue was empty
        here.tell(taken, 0.5)
        assert enqueue_missing(here, all_points(space), alone=False) == 1
        assert not has_more(here, plan)
        assert enqueue_missing(here, all_points(space), alone=True) == 1  # the others were killed
        assert has_more(here, plan)


# --- the command ---------------------------------------------------------------------------------


def test_the_command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Any:
        base = ("sweep", "--cache", world.cache16, "--init", world.encoder, "--epochs", 1,
                "--student-layers", 2, "--workers", 1)  # fmt: skip
        return CliRunner().invoke(cli, [str(word) for word in (*base, *words)])

    found = run("--set", "strategy=kd,skip")
    assert found.exit_code == 0, found.output
    assert "1/2 rte-kd-2-s0: 0." in found.stderr
    assert "rte-sweep: 2 students" in found.stdout
    assert (tmp_path / "data" / "students" / "rte-skip-2-s0" / "run.json").exists()
    assert json.loads(run("--set", "strategy=kd,skip", "--json").stdout)["best"]["score"] > 0
    wrong = run("--set", "stratgy=kd")
    assert wrong.exit_code == 1
    assert "unknown key `stratgy`" in wrong.stderr
    failed = run("--set", "learning_rate=1e9", "--max-grad-norm", 0, "--name", "bad")
    assert failed.exit_code == 1
    assert "failed: rte-skip-2-s0-learning_rate=1e+09: Step" in failed.stdout
