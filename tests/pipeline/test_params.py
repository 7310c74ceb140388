"""pytest tests/pipeline/test_params.py."""

from __future__ import annotations

import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ParamsError
from pipeline.params import PARAMS_OF_SECTION
from pipeline.resolve import SECTIONS, base_type, known_names, read_params, resolve


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    """A file that sets one thing at each level."""
    path = tmp_path / "params.yaml"
    path.write_text(
        "student:\n"
        "  epochs: 7\n"
        "  alpha: 0.2\n"
        "  beta: 500\n"
        "  tasks:\n"
        "    demo: {alpha: 0.7, learning_rate: 5e-5}\n"
        "    rte:\n"
        "grid: {anything: [1, 2]}\n"
    )
    return path


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_flag_beats_task_beats_section_beats_default(params_file: Path) -> None:
    flags = {"beta": 10.0, "epochs": None}
    values, sources = resolve("student", flags, task="demo", path=params_file)
    place = f"{params_file}: student"
    found = {
        name: (getattr(values, name), sources[name])
        for name in ("beta", "alpha", "learning_rate", "epochs", "temperature")
    }
    assert found == {
        "beta": (10.0, "flag"),
        "alpha": (0.7, f"{place}.tasks.demo"),
        "learning_rate": (5e-5, f"{place}.tasks.demo"),
        "epochs": (7, place),
        "temperature": (10.0, "default"),
    }


def test_overrides_of_another_task_do_not_leak(params_file: Path) -> None:
    for task in ("rte", "mrpc", None):
        values, _ = resolve("student", {}, task=task, path=params_file)
        assert (values.alpha, values.learning_rate) == (0.2, 5e-5)
    teacher, sources = resolve("teacher", {}, task="demo", path=params_file)
    assert (teacher.epochs, set(sources.values())) == (4, {"default"})


def test_every_value_has_a_source_without_a_file(tmp_path: Path) -> None:
    for section in SECTIONS:
        values, sources = resolve(section, {}, path=tmp_path / "none.yaml")
        assert values == PARAMS_OF_SECTION[section]()
        assert list(sources) == known_names(section)
        assert set(sources.values()) == {"default"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("studnet: {}", r"unknown section `studnet`. Did you mean `student`\?"),
        (
            "student: {epoch: 3}",
            r"params\.yaml: student: unknown key `epoch`. Did you mean `epochs`",
        ),
        (
            "student: {tasks: {rte: {btea: 3}}}",
            r"student\.tasks\.rte: unknown key `btea`. Did you mean `beta`\?",
        ),
        (
            "student: {tasks: {demo: {btea: 3}}}",  # of another task than the one asked for
            r"student\.tasks\.demo: unknown key `btea`",
        ),
        ("student: {tasks: {rtee: {beta: 3}}}", r"tasks\.rtee: unknown task. Did you mean `rte`\?"),
        ("student: {0: 1}", "unknown key `0`"),
        ("student: [beta]", "student: expected keys and values, found"),
        ("student: {tasks: rte}", r"student\.tasks: expected keys and values"),
        ("student: {tasks: {rte: 5}}", r"student\.tasks\.rte: expected keys and values, found 5"),
        ("tasks: [tickets]", "tasks: expected keys and values"),
        ("- student", "expected keys and values"),
        ("student: {", "not valid YAML"),
    ],
)
def test_a_malformed_file_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        resolve("student", {}, task="rte", path=written(tmp_path, text))


def test_what_is_no_utf8_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"student: {init: caf\xe9}")
    with pytest.raises(ParamsError, match="not valid YAML"):
        read_params(path)


def test_overrides_for_an_own_task_are_known(tmp_path: Path) -> None:
    text = "tasks: {tickets: {text: body}}\ndata: {tasks: {tickets: {source: tickets}}}"
    values, _ = resolve("data", {}, task="tickets", path=written(tmp_path, text))
    assert values.source == "tickets"


def test_an_empty_file_or_section_is_nothing(tmp_path: Path) -> None:
    assert read_params(written(tmp_path, "")) == {}
    values, _ = resolve("report", {}, path=written(tmp_path, "report:\n"))
    assert values == PARAMS_OF_SECTION["report"]()


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        ("student", "learning_rate: 5e-5", 5e-5),  # text in YAML 1.1
        ("student", "beta: 100", 100.0),
        ("student", "dropout: null", None),
        ("student", "strategy: [2, 4, 6]", "2,4,6"),
        ("student", "strategy: 6", "6"),
        ("student", "normalize: no", False),
        ("cache", "layers: all", "all"),
        ("data", "max_train_samples: null", None),
    ],
)
def test_yaml_is_read_as_it_was_meant(
    tmp_path: Path, section: str, text: str, expected: object
) -> None:
    values, _ = resolve(section, {}, path=written(tmp_path, f"{section}: {{{text}}}"))
    found = getattr(values, text.split(":")[0])
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "3", "expected a whole number, found '3'"),
        ("epochs", 3.0, "expected a whole number, found 3.0"),
        ("epochs", True, "expected a whole number, found True"),
        ("epochs", None, "expected a whole number, found None"),
        ("beta", "much", "expected a number, found 'much'"),
        ("beta", True, "expected a number, found True"),
        ("beta", [1.0], "expected a number"),
        ("beta", "nan", "expected a finite number"),
        ("beta", float("inf"), "expected a finite number"),
        ("normalize", 1, "expected true or false, found 1"),
        ("normalize", "yes", "expected true or false"),
        ("strategy", True, "expected text, found True"),
        ("strategy", False, "expected text, found False"),
        ("strategy", {"a": 1}, "expected text"),
    ],
)
def test_a_wrong_type_names_the_key_and_the_value(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    import yaml

    path = written(tmp_path, yaml.safe_dump({"student": {key: value}}))
    with pytest.raises(ParamsError, match=rf"params\.yaml: student\.{key}: {message}"):
        resolve("student", {}, path=path)


@pytest.mark.parametrize(
    ("section", "flags", "message"),
    [
        ("student", {"learning_rate": 0.0}, "--learning-rate: expected more than 0, found 0.0"),
        ("student", {"epochs": 0}, "--epochs: expected at least 1, found 0"),
        ("student", {"alpha": 1.01}, "--alpha: expected at most 1, found 1.01"),
        ("student", {"alpha": -0.01}, "--alpha: expected at least 0"),
        ("student", {"temperature": 0.0}, "--temperature: expected more than 0"),
        ("student", {"reduction": "pdk2019"}, r"--reduction: .* Did you mean `pkd2019`\?"),
        ("cache", {"dtype": "float8"}, "--dtype: expected one of float16, float32"),
        ("cache", {"max_length": 2}, "--max-length: expected at least 3"),
        ("data", {"max_train_samples": 0}, "--max-train-samples: expected at least 1"),
        ("data", {"seed": -1}, "--seed: expected at least 0"),
    ],
)
def test_a_value_out_of_range_names_the_flag(
    tmp_path: Path, section: str, flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        resolve(section, flags, path=tmp_path / "none.yaml")


@pytest.mark.parametrize("flags", [{"alpha": 0.0}, {"alpha": 1.0}, {"warmup": 1.0}, {"beta": 0.0}])
def test_limits_are_allowed_themselves(tmp_path: Path, flags: dict[str, float]) -> None:
    values, sources = resolve("student", flags, path=tmp_path / "none.yaml")
    ((name, value),) = flags.items()
    assert (getattr(values, name), sources[name]) == (value, "flag")


@pytest.mark.parametrize("section", SECTIONS)
def test_defaults_obey_their_own_rules_and_are_documented(section: str, tmp_path: Path) -> None:
    kind = PARAMS_OF_SECTION[section]
    defaults = {each.name: each.default for each in fields(kind)}
    assert resolve(section, defaults, path=tmp_path / "none.yaml")[0] == kind()
    for each in fields(kind):
        assert each.metadata["help"].endswith(".")
        assert base_type(typing.get_type_hints(kind)[each.name])[0] in (int, float, str, bool)
