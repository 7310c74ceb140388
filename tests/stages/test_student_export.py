"""pytest tests/stages/test_student_export.py - `pkd-student export` and `bench`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stages.student import cli
from tests.support.exports import Exported
from tests.support.tiny import World


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def project(world: World, exported: Exported, tmp_path: Path) -> Path:
    """A student, its export where the command puts it, a teacher and a cache."""
    shutil.copytree(world.cache16, tmp_path / "data" / "rte.zarr")
    shutil.copytree(world.teacher, tmp_path / "data" / "teachers" / "rte")
    shutil.copytree(exported.student, tmp_path / "data" / "students" / "bert")
    shutil.copytree(exported.folder, tmp_path / "data" / "exports" / "bert")
    return tmp_path


def test_export_says_what_was_checked_and_what_int8_costs(project: Path) -> None:
    again = run("export", "data/students/bert", "--onnx", "--int8", "--cache", "data/rte.zarr")
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.stderr
    record = json.loads((project / "data/exports/bert/export.json").read_text())
    error = record["check"]["largest_error"]
    assert f"largest error of a logit {error:.2g}, tolerance 0.0001" in again.stdout
    assert "checked on 37 rows of validation, in batches of 1, 3, 8, 32" in again.stdout
    lines = [line.split() for line in again.stdout.splitlines()[3:]]
    assert lines[0] == ["size", "accuracy", "same", "label", "largest", "error"]
    score = record["scores"]["pytorch"]["validation"]["accuracy"]
    assert lines[1] == ["PyTorch", f"{score:.4f}"]
    assert [line[0] for line in lines[2:]] == ["model.onnx", "model_int8.onnx"]
    assert lines[2][1:4] == [
        f"{record['files']['float32']['size_bytes'] / 1000:.1f}",
        "kB",
        lines[1][1],
    ]
    assert lines[2][4:6] == ["100.0", "%"]


def test_export_makes_a_folder_and_json(
    project: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(_: Any, __: Any, path: Path) -> None:
        shutil.copy(exported.folder / "model.onnx", path)

    monkeypatch.setattr("pipeline.export.student.to_onnx", copied)
    found = run("export", "data/students/bert", "--int8", "--out", "ex", "--json")
    assert found.exit_code == 0, found.output
    assert "no scores: add --cache" in found.stderr
    assert json.loads(found.stdout)["files"]["int8"]["scores"] == {}
    names = {path.name for path in (project / "ex").iterdir()}
    assert names == {
        "README.md", "config.json", "export.json", "model.onnx", "model_int8.onnx",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    without = run("export", "data/students/bert", "--out", "ex")
    assert without.exit_code == 1
    assert "ex: holds something else (int8: true there, false now)" in without.stderr.replace(
        "identity.", ""
    )


def test_bench_prints_a_table_and_writes_three_files(project: Path) -> None:
    found = run(
        "bench", "data/students/bert", "--teacher", "data/teachers/rte", "--onnx",
        "data/exports/bert", "--batch-sizes", "4,1", "--lengths", "6", "--seconds", "0",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    folder = project / "data" / "metrics"
    assert {path.name for path in folder.iterdir()} == {
        f"bench-bert.{end}" for end in ("json", "md", "png")
    }
    record = json.loads((folder / "bench-bert.json").read_text())
    teacher, student = record["timings"][:2]
    ratio = teacher["p50_ms"] / student["p50_ms"]
    row = next(line for line in found.stdout.splitlines() if line.split()[:1] == ["bert"])
    assert row.split() == [
        "bert", f"{student['p50_ms']:,.2f}", f"{student['p95_ms']:,.2f}",
        f"{student['rows_per_second']:,.0f}", f"{ratio:.2f}x", "10",
    ]  # fmt: skip
    assert [line.split("  ")[0].strip() for line in found.stdout.splitlines() if " x 6 " in line]
    assert found.stdout.splitlines()[-1].startswith(record["machine"]["processor"])
    assert "data/metrics/bench-bert.json, .md and .png: written" in found.stderr
    assert "| rte (teacher) | 4 |" in (folder / "bench-bert.md").read_text()


def test_bench_as_json(project: Path) -> None:
    found = run(
        "bench", "data/students/bert", "--batch-sizes", "2", "--lengths", "5", "--seconds", "0",
        "--json", "--name", "b", "--out", "m", "-q",
    )  # fmt: skip
    assert json.loads(found.stdout) == json.loads((project / "m/bench-b.json").read_text())
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("export", "none"), 1, "none: "),
        (("export",), 2, "Missing argument 'STUDENT'"),
        (("export", "data/students/bert", "--cache", "no.zarr"), 1, "no.zarr: no such cache"),
        (("bench",), 2, "Missing argument 'STUDENT...'"),
        (("bench", "data/students/bert", "--onnx", "data"), 1, "data: not an export"),
        (("bench", "data/students/bert", "--batch-sizes", "0,8"), 2, "numbers of 1 or more"),
        (("bench", "data/students/bert", "--lengths", "1"), 2, "numbers of 2 or more"),
        (("bench", "data/students/bert", "--lengths", "4,65"), 1, "reads at most 64 tokens"),
        (("bench", "data/students/bert", "--device", "tpu"), 1, "--device tpu"),
    ],
)  # fmt: skip
def test_mistakes(project: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    found = run(*arguments)
    assert found.exit_code == code, found.output
    assert text in found.stderr
    assert "Traceback" not in found.output
    assert not (project / "data" / "metrics").exists()
