"""pytest tests/stages/test_student.py"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from stages.student import cli
from tests.support.tiny import World

SETTINGS = """
student:
  init: enc
  epochs: 1
  batch_size: 16
  student_layers: 2
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


@pytest.fixture
def project(world: World, tmp_path: Path) -> Path:
    shutil.copytree(world.cache16, tmp_path / "data" / "rte.zarr")
    shutil.copytree(world.encoder, tmp_path / "enc")
    (tmp_path / "params.yaml").write_text(SETTINGS)
    return tmp_path


def test_fit_and_eval_as_the_readme_writes_them(project: Path) -> None:
    found = run("fit", "--cache", "data/rte.zarr", "--strategy", "skip")
    assert found.exit_code == 0, found.output
    folder = project / "data" / "students" / "rte-skip-2-s0"
    assert "data/students/rte-skip-2-s0: 2 of 4 layers" in found.stdout
    assert "at the first step: ce " in found.stderr
    assert "strategy = skip  (flag)" in found.stderr
    assert "init = enc  (params.yaml: student)" in found.stderr
    record = json.loads((folder / "run.json").read_text())
    assert record["params_from"]["epochs"] == "params.yaml: student"
    assert record["params_from"]["alpha"] == "default"
    again = run("fit", "--cache", "data/rte.zarr", "--strategy", "skip")
    assert "nothing to do" in again.stderr
    scores = run("eval", folder, "--cache", "data/rte.zarr", "--json")
    assert json.loads(scores.stdout)["scores"] == record["scores"]
    unlabelled = run("eval", folder, "--cache", "data/rte.zarr", "--split", "test")
    assert unlabelled.stdout.strip() == "test: no labels"


def test_a_student_that_has_learned_nothing_is_warned_of(world: World, project: Path) -> None:
    """What always says the larger class gets its share."""
    labels = pq.read_table(world.raw / "validation.parquet")["label"].to_pylist()
    share = max(labels.count(0), labels.count(1)) / len(labels)
    fit = ("fit", "--cache", "data/rte.zarr", "--strategy", "finetune")
    nothing = run(*fit, "--learning-rate", "1e-9", "--out", "nothing")
    told = f"warning: accuracy is no better than chance ({share:.4f}): give it more --epochs"
    assert told in nothing.stdout
    record = json.loads((project / "nothing" / "run.json").read_text())
    assert record["chance"] == {"metric": "accuracy", "score": pytest.approx(share)}
    assert record["scores"]["validation"]["accuracy"] <= share
    taught = run(*fit, "--learning-rate", "5e-3", "--epochs", "8", "--dropout", "0", "--out", "s")
    assert taught.exit_code == 0
    assert "no better than chance" not in taught.output


def test_one_term_that_is_nearly_all_of_the_loss_is_warned_of(project: Path) -> None:
    found = run("fit", "--cache", "data/rte.zarr", "--beta", "1e6", "--out", "s")
    assert found.exit_code == 0
    assert "warning: pt is 100% of the loss" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("fit", "--cache", "data/none.zarr"), 1, "data/none.zarr: no such cache"),
        (("fit", "--cache", "data"), 1, "not a finished cache"),
        (("fit", "--cache", "data/rte.zarr", "--strategy", "skp"), 1, "Did you mean `skip`"),
        (("fit", "--cache", "data/rte.zarr", "--strategy", "2,9", "--student-layers", "3"), 1,
         "layer 9 cannot be matched"),
        (("fit", "--cache", "data/rte.zarr", "--student-layers", "7"), 1, "deeper"),
        (("fit", "--cache", "data/rte.zarr", "--reduction", "sum"), 2, "'sum' is not one of"),
        (("fit", "--cache", "data/rte.zarr", "--alpha", "1.5"), 1, "--alpha: expected at most 1"),
        (("fit", "--cache", "data/rte.zarr", "--init", "./none"), 1, "./none: no such folder"),
        (("fit", "--strategy", "skip"), 2, "Missing option '--cache'"),
        (("eval", "enc", "--cache", "data/rte.zarr"), 1, "not a fine-tuned classifier"),
        (("eval", "none/x/y", "--cache", "data/rte.zarr"), 1, "no such folder"),
    ],
)  # fmt: skip
def test_mistakes(project: Path, arguments: tuple[Any, ...], code: int, text: str) -> None:
    found = run(*arguments)
    assert found.exit_code == code, found.output
    assert text in found.stderr
    assert "Traceback" not in found.output
    assert not (project / "data" / "students").exists() or not list(
        (project / "data" / "students").glob("[!.]*")
    )


def test_ctrl_c_leaves_nothing_that_looks_whole_and_resume_goes_on(project: Path) -> None:
    """A real signal to a real process."""
    import signal
    import subprocess
    import sys

    arguments = ["fit", "--cache", "data/rte.zarr", "--epochs", "300", "--out", "s", "--resume"]
    # a shell starts background jobs with SIGINT ignored, and its children inherit that
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from stages.student import cli; cli({arguments})"
    )
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin",
        "HOME": str(project), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        checkpoint = project / ".s.partial" / ".state" / "last" / "progress.json"
        while not checkpoint.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; nothing unfinished was published" in errors
    assert "Traceback" not in errors
    assert output == ""
    assert not (project / "s").exists()
    assert checkpoint.exists()


def test_trackers_are_named_by_flags_that_add_up_or_in_params(project: Path) -> None:
    """A list in the file, flags again and with commas; a name that is none is wrong usage."""
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings + "  report_to: [tensorboard]\n")
    found = run("fit", "--cache", "data/rte.zarr", "--strategy", "finetune", "--out", "s")
    assert found.exit_code == 0, found.output
    assert "report_to = tensorboard  (params.yaml: student)" in found.stderr
    assert list((project / "s" / "tensorboard").glob("events.*"))
    flags = ("--report-to", "tensorboard,none", "--report-to", "none")
    again = run("fit", "--cache", "data/rte.zarr", "--strategy", "finetune", "--out", "s", *flags)
    assert "report_to = tensorboard,none,none  (flag)" in again.stderr
    assert "nothing to do" in again.stderr
    wrong = run("fit", "--cache", "data/rte.zarr", "--report-to", "none,tensorbord")
    assert wrong.exit_code == 2
    assert "'tensorbord' is not one of none, tensorboard, wandb, mlflow" in wrong.stderr
    (project / "params.yaml").write_text(settings + "  report_to: tensorbord\n")
    wrong = run("fit", "--cache", "data/rte.zarr")
    assert wrong.exit_code == 1
    assert "Did you mean `tensorboard`?" in wrong.stderr
