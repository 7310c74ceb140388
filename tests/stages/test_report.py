"""Run with: pytest tests/stages/test_report.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stages.report import cli
from tests.pipeline.report.shelf import Shelf, build_prototype, copy_of


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Made once."""
    return build_prototype(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def shelf(prototype: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Runs where the command looks for them by default."""
    made = copy_of(prototype, tmp_path / "work" / "data")
    monkeypatch.chdir(made.root.parent)
    return made


def test_defaults_build_a_report(shelf: Shelf) -> None:
    shelf.add_grid()
    result = CliRunner().invoke(cli, ["build", "--latency-rows", "0", "--similarity-rows", "0"])
    assert result.exit_code == 0, result.output
    assert "data/report/report.html: 8 students" in result.stdout
    assert "skip-2: 0.6700 ± 0.0141 (n=2)" in result.stdout
    assert "latency_rows = 0  (flag)" in result.stderr
    assert Path("data/report/report.html").is_file()


def test_json_is_for_machines(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    (shelf.sources.students / "strange").mkdir()
    arguments = ["build", "--latency-rows", "0", "--similarity-rows", "0", "--json"]
    result = CliRunner().invoke(cli, arguments)
    content = json.loads(result.stdout)
    assert content["tasks"]["rte"]["skip-2"]["n"] == 1
    assert content["skipped"] == {"strange": "no run.json"}
    assert content["report"] == "data/report/report.html"


def test_no_runs_is_a_named_error(shelf: Shelf) -> None:
    result = CliRunner().invoke(cli, ["build"])
    assert result.exit_code == 1
    assert "Error: data/students: no student run to report on" in result.stderr
    assert "Traceback" not in result.output


def test_wrong_usage_exits_with_2() -> None:
    assert CliRunner().invoke(cli, ["build", "--wrong"]).exit_code == 2


def test_an_absent_device_is_a_named_error(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    result = CliRunner().invoke(cli, ["build", "--device", "cuda:99"])
    assert result.exit_code == 1
    assert "--device cuda:99" in result.stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_ends_with_an_example(flag: str) -> None:
    result = CliRunner().invoke(cli, ["build", flag])
    assert result.exit_code == 0
    assert "Example:\n    pkd-report build --students data/students --out data/report" in (
        result.output
    )
    for option in ("--students", "--teachers", "--caches", "--metrics", "--out", "--latency-rows"):
        assert option in result.output


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from stages.report import cli\n"
        "try: cli(['build', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'pyarrow') if m in sys.modules])"
    )
    repository = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip().endswith("[]")
