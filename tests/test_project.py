"""pytest tests/test_project.py - the files around the code say what is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.params import PARAMS_OF_SECTION
from pipeline.resolve import known_names, resolve
from tests.test_imports import reachable

ROOT = Path(__file__).parent.parent
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
# what a stage runs without running again for: its effect is in another stage's output, in
# params.yaml, or in no value at all
PLUMBING = {
    "data", "digests", "errors", "existing", "files", "locks", "params", "presets", "progress",
    "resolve", "tasks", "workers",
}  # fmt: skip
NAMED_ALONE = {"layers", "store", "strategies"}  # by the options of all stages, or for a type


@pytest.mark.parametrize("section", PARAMS_OF_SECTION)
def test_params_yaml_resolves_for_the_demo_and_for_a_real_task(section: str) -> None:
    for task in ("demo", "rte"):
        values, sources = resolve(section, {}, task=task, path=ROOT / "params.yaml")
        assert set(sources) == set(known_names(section))
        assert isinstance(values, PARAMS_OF_SECTION[section])


def test_the_demos_values_do_not_leak_into_real_tasks() -> None:
    for section in ("teacher", "student"):
        values, _ = resolve(section, {}, task="rte", path=ROOT / "params.yaml")
        assert values.init is None
        assert values == PARAMS_OF_SECTION[section]()


@pytest.mark.parametrize("stage", DVC["stages"])
def test_a_stage_names_code_that_exists_in_order(stage: str) -> None:
    code = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("pipeline")]
    assert code == sorted(code)
    for path in code:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("stage", "command", "besides"),
    [
        ("teacher", "stages.teacher", NAMED_ALONE),
        ("cache", "stages.cache.build", NAMED_ALONE | {"training"}),  # scores of folds, finished
        ("student", "stages.student.fit", set()),
    ],
)
def test_a_stage_runs_again_for_every_room_that_it_uses(
    stage: str, command: str, besides: set[str]
) -> None:
    deps = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("pipeline/")]
    declared = {dep.removeprefix("pipeline/").removesuffix(".py") for dep in deps}
    used = {name.split(".")[1] for name in reachable(command) if name.startswith("pipeline.")}
    assert used - PLUMBING - besides <= declared
    assert {"batches", "models"} <= declared <= used


def test_a_change_to_the_report_retrains_nothing() -> None:
    for name, stage in DVC["stages"].items():
        assert name == "report" or not [dep for dep in stage["deps"] if "report" in dep]
    # `pkd-student bench` draws with the report's pens, but no DVC stage runs it
    for stage in ("student.fit", "teacher", "cache", "data"):
        assert not [m for m in reachable(f"stages.{stage}") if m.startswith("pipeline.report")]


def test_every_parameter_is_tracked_by_its_stage() -> None:
    tracked = {name: stage.get("params", []) for name, stage in DVC["stages"].items()}
    assert tracked == {
        "base": ["base"], "data": ["data", "tasks"], "teacher": ["teacher"], "cache": ["cache"],
        "student": ["student"], "report": ["report"],
    }  # fmt: skip


def test_no_file_names_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pattern = re.compile(
        r"/(?:root|work|home)/\w|file:///opt|[a-z]+://[\w.]*(?:pypi|artifact)[\w.]*"
    )
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in (".png", ".svg") or name == "tests/test_project.py":
            continue
        assert not pattern.search(path.read_text("utf-8")), name


def test_constraints_pin_every_dependency_exactly() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    assert pins["torch"] == "2.13.0"
    for need in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.match(r"[A-Za-z0-9_.-]+", need)
        assert name
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in names, need
