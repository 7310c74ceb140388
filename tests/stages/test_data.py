"""pytest tests/stages/test_data.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.data import load_prepared
from stages.data import cli

ROWS = "subject,body,queue\n{}"
TASKS = """
tasks:
  tickets:
    text: [subject, body]
    label: queue
    labels: [billing, technical]
data:
  tasks:
    tickets: {source: files}
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with params.yaml and two csv files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(TASKS)
    write("files/train.csv", ROWS.format('a,"b, c",billing\nd,e,technical\nf,g,technical\n'))
    write("files/validation.csv", ROWS.format("h,i,billing\n"))
    return tmp_path


def write(name: str, content: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(content)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def prepare(*more: str, task: str = "tickets") -> Result:
    return run("prepare", "--task", task, *more)


def test_an_own_task_needs_no_flag_but_its_name() -> None:
    result = prepare()
    assert result.exit_code == 0
    digest = load_prepared(Path("data/raw/tickets")).digest[:12]
    assert result.stdout.splitlines() == [
        "split       rows  labelled  labels",
        "train          3         3  billing 1, technical 2",
        "validation     1         1  billing 1, technical 0",
        f"data/raw/tickets: files data, digest {digest}",
    ]
    assert "source = files  (params.yaml: data.tasks.tickets)" in result.stderr
    assert "seed=0" in result.stderr


def test_the_same_again_is_nothing_to_do() -> None:
    prepare()
    result = prepare()
    assert result.exit_code == 0
    assert result.stdout.endswith("; nothing to do.\n")


def test_json_is_json_alone_on_stdout() -> None:
    result = prepare("--json", "--out", "elsewhere/t")
    content = json.loads(result.stdout)
    assert (content["out"], content["status"]) == ("elsewhere/t", "prepared")
    assert content["splits"]["train"]["label_histogram"] == {"billing": 1, "technical": 2}
    assert json.loads(prepare("--json", "--out", "elsewhere/t").stdout)["status"] == "unchanged"


def test_other_data_is_refused_and_then_overwritten() -> None:
    prepare()
    refused = prepare("--max-train-samples", "2")
    assert refused.exit_code == 1
    assert "params.max_train_samples: null there, 2 now" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert refused.stdout == ""
    assert prepare("--max-train-samples", "2", "--overwrite").exit_code == 0
    assert load_prepared(Path("data/raw/tickets")).table("train").num_rows == 2


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.csv", ROWS.format("a,b\n"), "files/train.csv, line 2: expected 3 columns"),
        ("train.csv", ROWS.format("a,b,biling\n"), "Did you mean `billing`?"),
        ("train.csv", ROWS.format("a,,billing\n"), "line 2: `body`: expected text, found none"),
        ("train.csv", ROWS.format("a,b,\n"), "line 2: label: expected one of billing, technical"),
        ("train.csv", "subject,body\na,b\n", "no column `queue`. Columns found: subject, body."),
        ("validation.csv", ROWS.format(""), "files/validation.csv: no rows."),
        ("dev.csv", ROWS.format("a,b,billing\n"), "validation.csv, dev.csv could each be"),
    ],
)
def test_bad_rows_end_with_one_named_line(file: str, content: str, message: str) -> None:
    write(f"files/{file}", content)
    result = prepare()
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert [path.name for path in Path("data/raw").glob("*")] in ([], [".tickets.lock"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prepare", "--task", "tikets"), 1, "Did you mean `tickets`?"),
        (("prepare", "--task", "rte", "--source", "nowhere"), 1, "nowhere: no such folder"),
        (("prepare", "--task", "tickets", "--source", "hub"), 1, "--source DIR"),
        (("prepare", "--task", "tickets", "--max-train-samples", "0"), 1, "expected at least 1"),
        (("prepare", "--task", "tickets", "--max-train-samples", "x"), 2, "not a valid integer"),
        (("prepare", "--task", "tickets", "--sorce", "files"), 2, "--source"),
        (("prepare",), 2, "Missing option '--task'"),
        (("prepair",), 2, "No such command 'prepair'"),
        (("base", "--heads", "0"), 1, "--heads: expected at least 1"),
        (("base", "--hidden-size", "10"), 1, "no multiple of --heads"),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_output_below_a_file_is_a_message() -> None:
    result = prepare("--out", "params.yaml/x")
    assert result.exit_code == 1
    assert "params.yaml" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_params_with_a_typo_are_refused() -> None:
    write("params.yaml", TASKS + "    rte: {sorce: hub}\n")
    result = prepare()
    assert result.exit_code == 1
    assert "data.tasks.rte: unknown key `sorce`. Did you mean `source`?" in result.stderr


def test_broken_rows_of_published_data_are_told() -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(
        "QQP/train.tsv", f"{header}0\t1\t2\ta\tb\t1\n1\t2\t3\tcut\n\tin two\t0\n4\t1\t2\ta\t\t0\n"
    )
    write("QQP/dev.tsv", f"{header}0\t1\t2\ta\tb\t1\n")
    result = prepare("--source", "QQP", task="qqp")
    assert result.exit_code == 0
    assert "train: 2 broken rows left out, as in the hub's copy" in result.stderr
    assert "train: 1 empty texts, kept as published" in result.stderr


def test_regression_shows_mean_and_range() -> None:
    write("stars/train.csv", "sentence1,sentence2,label\na,b,1.5\nc,d,4\n")
    write("stars/validation.csv", "sentence1,sentence2,label\na,b,2\n")
    result = prepare("--source", "stars", task="stsb")
    assert "mean 2.75, min 1.5, max 4" in result.stdout


def test_the_demo_in_small() -> None:
    sizes = ("--train-rows", "20", "--validation-rows", "6", "--test-rows", "4")
    content = json.loads(prepare("--json", *sizes, task="demo").stdout)
    assert {name: split["rows"] for name, split in content["splits"].items()} == {
        "train": 20,
        "validation": 6,
        "test": 4,
    }


def test_base_shows_progress_and_is_built_once() -> None:
    small = ("--layers", "2", "--hidden-size", "8", "--heads", "2", "--steps", "5")
    result = run("base", *small, "--batch-size", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("data/base/demo: 2 layers, ")
    assert "pretraining: 5/5, loss" in result.stderr
    again = run("base", *small, "--batch-size", "2", "--json")
    content: dict[str, Any] = json.loads(again.stdout)
    assert (content["status"], content["settings"]["steps"]) == ("unchanged", 5)


@pytest.mark.parametrize("command", ["prepare", "base"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_ends_its_text_with_an_example(command: str, flag: str) -> None:
    result = run(command, flag)
    assert result.exit_code == 0
    assert "\n  Example:\n      pkd-data " in result.stdout
