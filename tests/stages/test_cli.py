"""pytest tests/stages/test_cli.py."""

from __future__ import annotations

import errno
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pipeline.errors import DataError
from stages import cli as shared
from stages.progress import progress


@shared.commands("pkd-test", "Group text.")
def group() -> None:
    """A group for these tests."""


@group.command()
@click.argument("kind")
def fail(kind: str) -> None:
    """Fail in one way."""
    raise {
        "named": DataError("what and why"),
        "full": OSError(errno.ENOSPC, "No space left on device", "out/file"),
        "denied": PermissionError(errno.EACCES, "Permission denied", "out/file"),
        "bare": OSError("just text"),
        "stopped": KeyboardInterrupt(),
        "bug": ZeroDivisionError("a bug"),
    }[kind]


@group.command()
@shared.with_params("student")
@shared.json_option
def values(as_json: bool, **flags: Any) -> None:
    """Show resolved parameters."""
    resolved, sources = shared.resolve("student", flags, "rte")
    shared.emit({"beta": resolved.beta, "source": sources["beta"]}, as_json, f"{resolved.beta}")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No params.yaml but the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("named", "Error: what and why\n"),
        ("full", "Error: out/file: the disk is full (No space left on device). Nothing unfinished"),
        ("denied", "Error: out/file: Permission denied\n"),
        ("bare", "Error: just text\n"),
        ("stopped", "Error: interrupted; nothing unfinished was published.\n"),
    ],
)
def test_expected_failures_are_one_message_and_exit_1(kind: str, message: str) -> None:
    result = run("fail", kind)
    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert result.stdout == ""


def test_bugs_keep_their_traceback() -> None:
    assert isinstance(run("fail", "bug").exception, ZeroDivisionError)


def test_wrong_usage_exits_2() -> None:
    assert run("nothing").exit_code == 2
    assert run("values", "--betta", "1").exit_code == 2
    assert run("values", "--beta", "much").exit_code == 2
    assert run("values", "--reduction", "sum").exit_code == 2


def test_a_bool_has_two_flags_and_a_choice_lists_its_values() -> None:
    text = run("values", "-h").stdout
    assert "--normalize / --no-normalize" in text
    assert "[pkd2019|paper]" in text
    assert "[default: 100.0]" in text
    assert "[default: None]" not in text


def test_resolve_tells_sources_on_stderr_alone() -> None:
    Path("params.yaml").write_text("student: {beta: 5, tasks: {rte: {alpha: 0.1}}}")
    result = run("values", "--epochs", "2", "--no-normalize")
    assert result.stdout == "5.0\n"
    assert "  beta = 5.0  (params.yaml: student)\n" in result.stderr
    assert "  alpha = 0.1  (params.yaml: student.tasks.rte)\n" in result.stderr
    assert "  epochs = 2  (flag)\n" in result.stderr
    assert "  normalize = False  (flag)\n" in result.stderr
    assert "temperature=10.0" in result.stderr.splitlines()[-1]


def test_json_is_json_alone() -> None:
    result = run("values", "--json")
    assert json.loads(result.stdout) == {"beta": 100.0, "source": "default"}


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("pkd-test, version ")
    assert run("-h").stdout == run("--help").stdout
    assert "Group text." in run("-h").stdout


def test_own_tasks_come_from_the_parameters_file() -> None:
    Path("params.yaml").write_text("tasks: {own: {text: t, labels: [a, b]}}")
    assert shared.task_named("own").label_names == ("a", "b")
    assert shared.task_named("rte").name == "rte"


@pytest.mark.parametrize("module", ["stages.cli", "stages.data"])
def test_help_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "pyarrow", "datasets", "transformers", "numpy", "rich"} & set(
        loaded.stdout.split()
    )


@group.command()
def talk() -> None:
    """Say something on both."""
    shared.note("a note")
    with progress() as tick:
        tick("work", 1, 1)
    shared.emit({"a": 1}, False, "a result")


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_a_quiet_command_says_its_result_alone(flag: str) -> None:
    assert run("talk").stderr == "a note\nwork: 1/1\n"
    quiet = run("talk", flag)
    assert (quiet.stdout, quiet.stderr) == ("a result\n", "")


def test_every_command_can_be_quiet() -> None:
    for stage in ("data", "teacher", "cache", "student", "report"):
        cli = importlib.import_module(f"stages.{stage}").cli
        for command in cli.commands.values():
            assert any("--quiet" in each.opts for each in command.params), command.name


def test_an_error_has_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> bool:
        return "\x1b[" in CliRunner().invoke(group, ["fail", "named"], color=True).stderr

    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        ("student", "fit --strategy ra", ["rail", "rail-concat"]),
        ("student", "fit --strategy auto", ["auto"]),
        ("student", "fit --preset p", ["peakd", "pkd2019"]),
        ("student", "fit --kd-loss an", ["annealed"]),
        ("cache", "build --task m", ["mine", "mnli", "mrpc"]),
        ("cache", "ver", ["verify"]),
    ],
)
def test_a_shell_completes(
    command: str, words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("params.yaml").write_text("tasks: {mine: {text: a, label: b}}\n")
    name = f"pkd-{command}"
    line = f"{name} {words}"
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    variable = f"_PKD_{command.upper()}_COMPLETE"
    cli = importlib.import_module(f"stages.{command}").cli
    found = CliRunner().invoke(cli, [], prog_name=name, env={variable: "bash_complete"})
    assert [each.split(",")[1] for each in found.stdout.split()] == expected
