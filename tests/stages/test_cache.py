"""pytest tests/stages/test_cache.py"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stages.cache import cli
from tests.support.tiny import World


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def project(world: World, tmp_path: Path) -> Path:
    """A working directory as the commands find it."""
    for name in ("raw", "teachers"):
        shutil.copytree(world.root / "data" / name, tmp_path / "data" / name)
    (tmp_path / "params.yaml").write_text("cache: {shard_rows: 40, tasks: {rte: {layers: [2, 4]}}}")
    return tmp_path


def test_build_with_nothing_but_a_task(project: Path) -> None:
    built = run("build", "--task", "rte")
    assert built.exit_code == 0, built.output
    assert "layers 2,4 x 16 float16" in built.stdout
    assert "teacher on validation: accuracy 0.8" in built.stdout
    assert "Next: pkd-student fit --cache data/rte.zarr --strategy skip" in built.stdout
    assert "layers = 2,4  (params.yaml: cache.tasks.rte)" in built.stderr
    assert "teacher over train: 150/150" in built.stderr
    timings = json.loads((project / "data" / "metrics" / "cache-rte.json").read_text())
    assert timings["rows"] == timings["computed_rows"] == 198
    assert timings["train_pass_seconds"] > 0
    again = run("build", "--task", "rte")
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    other = run("build", "--task", "rte", "--dtype", "float32")
    assert other.exit_code == 1
    assert "dtype float16, asked for float32" in other.stderr
    assert run("build", "--task", "rte", "--dtype", "float32", "--overwrite").exit_code == 0


def test_info_for_people_and_machines(world: World) -> None:
    found = run("info", world.cache16)
    assert found.exit_code == 0
    for text in ("rte; labels entailment, not_entailment", "1..4 x 16, float16", "largest error",
                 "test          11         0"):  # fmt: skip
        assert text in found.stdout
    content = json.loads(run("info", world.cache16, "--json").stdout)
    assert content["splits"]["train"]["rows"] == 150


def test_verify_prints_the_largest_error_against_the_teacher(world: World) -> None:
    sound = run("verify", world.cache16, "--teacher", world.teacher, "--json")
    assert sound.exit_code == 0, sound.output
    content = json.loads(sound.stdout)
    assert content["findings"] == []
    assert 1e-5 < content["rerun"]["layers"]["3"]["relative_l2_max"] < 1e-3
    exact = run("verify", world.cache, "--teacher", world.teacher)
    assert "largest error of a logit:" in exact.stdout


def test_verify_names_the_damaged_file_and_fails(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.cache16, tmp_path / "c.zarr")
    path = tmp_path / "c.zarr" / "train" / "cls" / "c" / "1" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-1])
    found = run("verify", tmp_path / "c.zarr")
    assert found.exit_code == 1
    assert "train/cls/c/1/0/0: has" in found.stdout


def test_verify_with_another_teacher(world: World, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(world.teacher)
    model.classifier.bias.data += 1
    shutil.copytree(world.teacher, tmp_path / "t")
    model.save_pretrained(tmp_path / "t")
    found = run("verify", world.cache16, "--teacher", tmp_path / "t")
    assert found.exit_code == 1
    assert "the cache was built with rte" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("build", "--task", "rta"), 1, "Unknown task `rta`. Did you mean `rte`?"),
        (("build", "--task", "cola"), 1, "pkd-data prepare --task cola"),
        (("build", "--task", "rte", "--teacher", "data/gone"), 1, "data/gone: no such folder"),
        (("build", "--task", "rte", "--dtype", "int9"), 2, "'int9' is not one of"),
        (("build", "--task", "rte", "--shards", "9"), 2, "No such option"),
        (("build",), 2, "Missing option '--task'"),
        (("info", "data/none.zarr"), 1, "data/none.zarr: no such cache"),
        (("verify", "data/raw"), 1, "not a finished cache"),
        (("build", "--task", "rte", "--device", "tpu9"), 1, "--device tpu9"),
        (("verify", "data/rte.zarr", "--rows", "0"), 2, "0 is not in the range"),
    ],
)
def test_mistakes(project: Path, arguments: tuple[Any, ...], code: int, text: str) -> None:
    found = run(*arguments)
    assert found.exit_code == code, found.output
    assert text in found.stderr
    assert "Traceback" not in found.output
    assert not (project / "data" / "rte.zarr").exists()


def test_a_full_disk_is_one_message_and_the_build_goes_on_later(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real limit on file size, in a process of its own: the first shard does not fit."""
    import subprocess
    import sys

    code = (
        "import resource, sys\n"
        "limit = int(sys.argv[1])\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch, transformers, zarr, pyarrow\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "from stages.cache import cli; cli(['build', '--task', 'rte', '--layers', 'all'])"
    )
    command = [sys.executable, "-c", code, "3000"]
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",  # else it leaves cut .pyc files behind
    }  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 1, found.stderr
    assert "the disk is full" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (project / "data" / "rte.zarr").exists()
    assert run("build", "--task", "rte", "--layers", "all").exit_code == 0
    assert run("verify", "data/rte.zarr").exit_code == 0


def test_ctrl_c_is_one_message(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.caching.build.build_cache", interrupted)
    found = run("build", "--task", "rte")
    assert found.exit_code == 1
    assert "interrupted; nothing unfinished was published" in found.stderr
