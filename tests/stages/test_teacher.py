"""pytest tests/stages/test_teacher.py"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stages.teacher import cli
from tests.support.tiny import World


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def project(world: World, tmp_path: Path) -> Path:
    shutil.copytree(world.raw, tmp_path / "data" / "raw" / "rte")
    shutil.copytree(world.encoder, tmp_path / "enc")
    (tmp_path / "params.yaml").write_text(
        "teacher: {epochs: 3, batch_size: 16, learning_rate: 5e-3, tasks: {rte: {max_length: 20}}}"
    )
    return tmp_path


def test_fit_and_eval(project: Path) -> None:
    found = run("fit", "--task", "rte", "--init", "enc")
    assert found.exit_code == 0, found.output
    assert "Next: pkd-cache build --task rte" in found.stdout
    assert "max_length = 20  (params.yaml: teacher.tasks.rte)" in found.stderr
    folder = project / "data" / "teachers" / "rte"
    record = json.loads((folder / "teacher.json").read_text())
    assert record["base"]["name"] == "enc"
    assert record["base"]["hub_id"] is None
    assert record["max_length"] == 20
    assert record["data_digest"] == json.loads(
        (project / "data" / "raw" / "rte" / "data.json").read_text()
    )["digest"]  # fmt: skip
    assert str(project) not in (folder / "teacher.json").read_text()
    scores = json.loads(run("eval", "--task", "rte", "--json").stdout)["scores"]
    assert scores == record["scores"]
    assert "nothing to do" in run("fit", "--task", "rte", "--init", "enc").stderr
    other = run("fit", "--task", "rte", "--init", "enc", "--epochs", "1")
    assert other.exit_code == 1
    assert "epochs: 3 there, 1 now" in other.stderr


def test_regression(project: Path) -> None:
    """An own task whose labels are numbers, from a csv to a scored teacher."""
    from stages.data import cli as data_cli

    (project / "params.yaml").write_text(
        "tasks: {stars: {text: review, label: stars}}\n"
        "teacher: {epochs: 12, batch_size: 8, learning_rate: 5e-3, max_length: 16}\n"
    )
    source = project / "reviews"
    source.mkdir()
    for name, rows in (("train", 90), ("validation", 30)):
        lines = [f"{'sun ' * (row % 4)}w{row % 7},{row % 4}.5" for row in range(rows)]
        (source / f"{name}.csv").write_text("review,stars\n" + "\n".join(lines) + "\n")
    prepared = CliRunner().invoke(data_cli, ["prepare", "--task", "stars", "--source", str(source)])
    assert prepared.exit_code == 0, prepared.output
    found = run("fit", "--task", "stars", "--init", "enc", "--json")
    assert found.exit_code == 0, found.output
    record = json.loads(found.stdout)
    assert record["scores"]["validation"]["pearson"] > 0.8
    assert set(record["scores"]["validation"]) == {"pearson", "spearman"}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("fit", "--task", "rte"), 1, "pass --init MODEL"),
        (("fit", "--task", "ret", "--init", "enc"), 1, "Did you mean `rte`"),
        (("fit", "--task", "mrpc", "--init", "enc"), 1, "pkd-data prepare --task mrpc"),
        (("fit", "--task", "rte", "--init", "data/no/such"), 1, "data/no/such: no such folder"),
        (("fit", "--task", "rte", "--init", "enc", "--precision", "fp8"), 2, "'fp8' is not one"),
        (("fit", "--task", "rte", "--init", "enc", "--max-length", "900"), 1, "at most 64 tokens"),
        (("eval", "--task", "rte", "--max-length", "-5"), 2, "-5 is not in the range"),
        (("eval", "--task", "rte"), 1, "data/teachers/rte: no such folder"),
    ],
)
def test_mistakes(project: Path, arguments: tuple[Any, ...], code: int, text: str) -> None:
    found = run(*arguments)
    assert found.exit_code == code, found.output
    assert text in found.stderr
    assert "Traceback" not in found.output
    assert not (project / "data" / "teachers").exists()


def test_a_task_described_anew_is_prepared_anew(project: Path) -> None:
    """Labels in another order in params.yaml, after the data was prepared."""
    from stages.data import cli as data_cli

    source = project / "mail"
    source.mkdir()
    for name in ("train", "validation"):
        (source / f"{name}.csv").write_text("text,label\nw1 sun,spam\nw2,ham\n")
    settings = project / "params.yaml"
    settings.write_text("tasks: {mail: {text: text, labels: [ham, spam]}}")
    prepare = ["prepare", "--task", "mail", "--source", "mail"]
    assert CliRunner().invoke(data_cli, prepare).exit_code == 0
    settings.write_text("tasks: {mail: {text: text, labels: [spam, ham]}}")
    found = run("fit", "--task", "mail", "--init", "enc")
    assert found.exit_code == 1
    assert "prepared with label_names ['ham', 'spam'], params.yaml now says" in found.stderr
    assert "pkd-data prepare --task mail --overwrite" in found.stderr


@pytest.mark.parametrize("limit", [pytest.param(2000, marks=pytest.mark.soak_only), 30000])
def test_a_full_disk_is_one_message(project: Path, limit: int) -> None:
    """A real limit on file size, met by the checkpoint."""
    import subprocess
    import sys

    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch, transformers, pyarrow, accelerate, dvclive\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from stages.teacher import cli; cli(['fit', '--task', 'rte', '--init', 'enc'])"
    )
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin",
        "HOME": str(project), "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 1, found.stderr
    assert "the disk is full" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (project / "data" / "teachers" / "rte").exists()
