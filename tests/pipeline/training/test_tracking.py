"""pytest tests/pipeline/training/test_tracking.py - what trackers are told is what DVCLive logs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ParamsError, TrainingError
from pipeline.params import StudentParams
from pipeline.student.fit import fit_student
from pipeline.training.runs import identifying
from pipeline.training.tracking import TrackedRun, require_trackers, tracked, trackers_of
from tests.support.tiny import STUDENT, World

Points = dict[str, dict[int, float]]
"""metric -> step -> value"""


@pytest.fixture
def mlruns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's local folder; it sends nothing about its use anywhere."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path / "mlruns"


def fit(world: World, out: Path, report_to: str, **more: Any) -> dict[str, Any]:
    params = replace(STUDENT, init=str(world.encoder), device="cpu", report_to=report_to, **more)
    return fit_student(cache_path=world.cache16, out=out, params=params, sources={}, resume=True)[1]


def dvclive_points(folder: Path) -> Points:
    """What DVCLive wrote: a file for each metric."""
    found: Points = {}
    root = folder / "dvclive" / "plots" / "metrics"
    for path in root.rglob("*.tsv"):
        rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
        name = path.relative_to(root).with_suffix("").as_posix()
        found[name] = {int(row["step"]): float(row[path.stem]) for row in rows}
    return found


def tensorboard_points(folder: Path) -> Points:
    """What TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    return {n: {event.step: event.value for event in events.Scalars(n)} for n in names}


def mlflow_points(folder: Path) -> tuple[Path, Points]:
    """What is in the files of MLflow's only run: `time value step` a line."""
    (metrics,) = (path for path in folder.glob("*/*/metrics") if path.parts[-3] != "0")
    found: Points = {}
    for path in metrics.rglob("*"):
        if path.is_file():
            lines = [line.split() for line in path.read_text().splitlines()]
            name = path.relative_to(metrics).as_posix()
            found[name] = {int(line[2]): float(line[1]) for line in lines}
    return metrics.parent, found


def assert_equal(found: Points, wanted: Points, tolerance: float) -> None:
    assert set(found) == set(wanted)
    for name, points in wanted.items():
        assert found[name] == pytest.approx(points, rel=tolerance), name


def test_tensorboard_and_mlflow_have_the_figures_of_dvclive(
    world: World, tmp_path: Path, mlruns: Path
) -> None:
    fit(world, tmp_path / "s", "tensorboard,mlflow")
    logged = dvclive_points(tmp_path / "s")
    assert {"train/loss/total", "train/share/ce", "eval/validation/accuracy"} <= set(logged)
    assert list(logged["train/loss/total"]) == [1, 10, 11, 20]  # firsts of an epoch, and tens
    assert_equal(tensorboard_points(tmp_path / "s"), logged, 1e-6)  # it keeps float32
    run, found = mlflow_points(mlruns)
    assert_equal(found, logged, 1e-12)
    assert (run / "params" / "alpha").read_text() == "0.5"
    assert (run / "params" / "task").read_text() == "rte"
    assert (run / "tags" / "mlflow.runName").read_text() == "s"
    assert "status: 3" in (run / "meta.yaml").read_text()  # finished


def test_a_tracker_changes_neither_the_student_nor_its_identity(
    world: World, tmp_path: Path
) -> None:
    fit(world, tmp_path / "plain", "none")
    fit(world, tmp_path / "told", "tensorboard")
    one, other = (tmp_path / name / "model.safetensors" for name in ("plain", "told"))
    assert one.read_bytes() == other.read_bytes()
    assert not (tmp_path / "plain" / "tensorboard").exists()
    assert fit(world, tmp_path / "plain", "tensorboard")["existed"]
    default = StudentParams()
    assert identifying(replace(default, report_to="wandb")) == identifying(default)


def test_a_resumed_run_goes_on_in_the_same_tracker_run(
    world: World, tmp_path: Path, mlruns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second of two epochs: what came after its checkpoint is told once more."""
    from pipeline.training.evaluate import evaluate as honest

    def evaluate_once(*given: Any) -> Any:
        if evaluations:
            raise KeyboardInterrupt
        evaluations.append(1)
        return honest(*given)

    evaluations: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.training.session.evaluate", evaluate_once)
        with pytest.raises(KeyboardInterrupt):
            fit(world, tmp_path / "s", "tensorboard,mlflow")
    run, before = mlflow_points(mlruns)
    assert before["train/loss/total"].keys() == {1, 10, 11, 20}
    assert "status: 4" in (run / "meta.yaml").read_text()  # failed
    fit(world, tmp_path / "s", "tensorboard,mlflow")
    same, found = mlflow_points(mlruns)
    assert same == run
    assert "status: 3" in (run / "meta.yaml").read_text()
    logged = dvclive_points(tmp_path / "s")
    assert_equal(tensorboard_points(tmp_path / "s"), logged, 1e-6)
    assert found["train/loss/total"] == pytest.approx(
        before["train/loss/total"] | logged["train/loss/total"]
    )


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accelerate.utils

    monkeypatch.setattr(accelerate.utils, f"is_{name}_available", lambda: False)
    params = replace(STUDENT, report_to=name)
    with pytest.raises(ParamsError, match=rf"{name}: .* `pip install 'pkd\[{name}\]'`"):
        fit_student(cache_path=tmp_path / "none.zarr", out=None, params=params, sources={})


def test_a_tracker_that_does_not_start_is_one_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nothing-of-the-kind://x")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with pytest.raises(TrainingError, match="--report-to mlflow: it did not start"):
        fit(world, tmp_path / "s", "mlflow")
    assert not (tmp_path / "s").exists()


def test_wandb_is_told_the_project_the_name_and_the_run_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in for the package: what reaches `wandb.init` and `log`."""
    import sys
    import types

    calls: list[tuple[str, Any]] = []

    class Run:
        id = "abc"
        config = types.SimpleNamespace(update=lambda values, **_: calls.append(("config", values)))

        def log(self, values: Any, step: int, **_: Any) -> None:
            calls.append(("log", (step, values)))

        def finish(self) -> None:
            calls.append(("finish", None))

    def init(**given: Any) -> Run:
        calls.append(("init", given))
        return Run()

    module: Any = types.ModuleType("wandb")
    module.init = init
    module.config = Run.config
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("accelerate.utils.is_wandb_available", lambda: True)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    first = TrackedRun(
        name="s", folder=tmp_path, state=tmp_path, settings={"alpha": 0.5, "init": None},
        resume_at=None, on_cpu=True,
    )  # fmt: skip
    with tracked("wandb", first) as (tracker,):
        tracker.log({"x": 1.0}, step=3)
    with tracked("wandb", replace(first, resume_at=10)):
        pass
    names = [name for name, _ in calls]
    assert names == ["init", "config", "log", "finish", "init", "finish"]
    one, two = (given for name, given in calls if name == "init")
    assert (one["project"], one["name"], one["id"]) == ("pkd", "s", None)
    assert (two["id"], two["resume"]) == ("abc", "allow")
    assert calls[1][1] == {"alpha": 0.5, "init": "None"}
    assert calls[2][1] == (3, {"x": 1.0})


def test_names() -> None:
    assert trackers_of("none") == ()
    assert trackers_of("mlflow,none,tensorboard,mlflow") == ("mlflow", "tensorboard")
    require_trackers("none")
