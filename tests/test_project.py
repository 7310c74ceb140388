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
STAGE_MODULES = {
    "base": {"pipeline.demo", "pipeline.pretrain"},
    "data": {"pipeline.demo", "pipeline.tasks"},
    "teacher": {
        "pipeline.fit_teacher", "pipeline.training", "pipeline.models", "pipeline.encode",
        "pipeline.packing", "pipeline.last_block", "pipeline.checkpoints",
    },
    "cache": {
        "pipeline.build", "pipeline.plan", "pipeline.teacher_pass", "pipeline.encode",
        "pipeline.last_block",
    },
    "student": {
        "pipeline.fit_student", "pipeline.training", "pipeline.losses", "pipeline.targets",
        "pipeline.packing", "pipeline.last_block", "pipeline.checkpoints",
    },
}  # fmt: skip


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
def test_a_stage_depends_on_code_that_exists_and_that_it_uses(stage: str) -> None:
    code = [dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("pipeline")]
    assert code == sorted(code)
    for path in code:
        assert (ROOT / path).exists(), path
    declared = {path.removesuffix(".py").replace("/", ".") for path in code}
    assert STAGE_MODULES.get(stage, set()) <= declared


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
