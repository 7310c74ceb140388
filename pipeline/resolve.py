"""Resolved parameters: from defaults, `params.yaml`, presets and flags, and where each came from.

A flag beats a preset, which beats `<section>.tasks.<task>`, which beats `<section>`, which beats
the default of `pipeline.params`. Keys that no dataclass knows are errors.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pipeline.errors import ParamsError, did_you_mean
from pipeline.params import PARAMS_OF_SECTION
from pipeline.presets import load_preset
from pipeline.tasks import BUILT_IN

PARAMS_FILE = Path("params.yaml")
SECTIONS = tuple(PARAMS_OF_SECTION)
OTHER_KEYS = ("grid", "tasks")  # read by dvc.yaml alone; own tasks


def resolve(
    section: str,
    flags: Mapping[str, Any],
    *,
    task: str | None = None,
    path: Path = PARAMS_FILE,
) -> tuple[Any, dict[str, str]]:
    """Resolve one command's parameters.

    Args:
        section: a key of `PARAMS_OF_SECTION`.
        flags: values given on the command line; None = not given.
        task: the task whose overrides in `<section>.tasks` apply.
        path: the parameters file; it may be absent.

    Returns:
        The dataclass instance, and the source of each value: "default", "params.yaml: student",
        "params.yaml: student.tasks.rte", "preset pkd2019" or "flag"; each beats those before it.

    Raises:
        ParamsError: unknown key, wrong type, or a value out of range; names the file and the key.
    """
    kind = PARAMS_OF_SECTION[section]
    values: dict[str, Any] = {}
    sources = {each.name: "default" for each in fields(kind)}
    for place, given in _layers(section, task, read_params(path), path):
        for key, value in given.items():
            values[key] = parse_value(kind, key, value, place)
            sources[key] = place
    if preset := flags.get("preset") or values.get("preset"):
        for key, value in load_preset(preset).values(section, task).items():
            values[key] = parse_value(kind, key, value, f"preset {preset}")
            sources[key] = f"preset {preset}"
    for key, value in flags.items():
        if value is not None:
            values[key] = parse_value(kind, key, value, "flag")
            sources[key] = "flag"
    return kind(**values), sources


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The parsed parameters file, {} when there is none; unknown top-level keys are errors."""
    import yaml

    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    _require_mapping(content, str(path))
    for key in content:
        if key not in (*SECTIONS, *OTHER_KEYS):
            known = (*SECTIONS, *OTHER_KEYS)
            raise ParamsError(f"{path}: unknown section `{key}`.{did_you_mean(str(key), known)}")
    _require_mapping(content.get("tasks") or {}, f"{path}: tasks")
    return dict(content)


def known_names(section: str) -> list[str]:
    """Names of a section's parameters, in the order of their declaration."""
    return [each.name for each in fields(PARAMS_OF_SECTION[section])]


def _layers(
    section: str, task: str | None, content: Mapping[str, Any], path: Path
) -> list[tuple[str, Mapping[str, Any]]]:
    """The file's values for a section, weakest first, each with its place."""
    whole = content.get(section) or {}
    _require_mapping(whole, f"{path}: {section}")
    per_task = whole.get("tasks") or {}
    _require_mapping(per_task, f"{path}: {section}.tasks")
    base = {key: value for key, value in whole.items() if key != "tasks"}
    layers: list[tuple[str, Mapping[str, Any]]] = [(f"{path}: {section}", base)]
    for name, override in per_task.items():
        place = f"{path}: {section}.tasks.{name}"
        _require_task(name, content, place)
        _require_mapping(override or {}, place)
        for key in override or {}:
            _require_known(PARAMS_OF_SECTION[section], key, place)
        if name == task:
            layers.append((place, override or {}))
    return layers


def _require_task(name: object, content: Mapping[str, Any], place: str) -> None:
    known = [*BUILT_IN, *(content.get("tasks") or {})]
    if name not in known:
        raise ParamsError(f"{place}: unknown task.{did_you_mean(str(name), known)}")


def _require_mapping(value: object, place: str) -> None:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{place}: expected keys and values, found {value!r}.")


def _require_known(kind: type[Any], key: str, place: str) -> None:
    known = [each.name for each in fields(kind)]
    if key not in known:
        raise ParamsError(f"{place}: unknown key `{key}`.{did_you_mean(str(key), known)}")


def parse_value(kind: type[Any], key: str, value: object, place: str) -> Any:
    """One value as its declared type, checked against its choices and limits.

    Args:
        kind: a dataclass of parameters.
        key: name of one.
        value: what was given for it.
        place: where, for the message.

    Raises:
        ParamsError: unknown, of another type, or out of range.
    """
    _require_known(kind, key, place)
    declared = next(each for each in fields(kind) if each.name == key)
    wanted = get_type_hints(kind)[key]
    where = f"--{key.replace('_', '-')}" if place == "flag" else f"{place}.{key}"
    result = _as_type(wanted, value, where)
    several = isinstance(result, str) and declared.metadata["many"]
    for each in result.split(",") if several else [result]:
        _check_choices(each, declared.metadata["choices"], where)
    _check_limits(result, declared.metadata["limits"], where)
    return result


def base_type(wanted: Any) -> tuple[type[Any], bool]:
    """Split `int | None` into (int, True) and `int` into (int, False)."""
    if get_origin(wanted) in (Union, types.UnionType):
        inner = [each for each in get_args(wanted) if each is not type(None)]
        return inner[0], True
    return wanted, False


def _as_type(wanted: Any, value: object, where: str) -> Any:
    kind, optional = base_type(wanted)
    if value is None and optional:
        return None
    result = _reread(kind, value)
    if not isinstance(result, kind) or (kind is int and isinstance(result, bool)):
        raise ParamsError(f"{where}: expected {_KIND_NAMES[kind]}, found {value!r}.")
    if isinstance(result, float) and not math.isfinite(result):
        raise ParamsError(f"{where}: expected a finite number, found {value!r}.")
    return result


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _reread(kind: type[Any], value: object) -> object:
    """What YAML parsed, as the `kind` it was meant for; unchanged where it is no such thing."""
    match kind.__name__, value:
        case _, bool():
            return value
        case "str", list():  # `layers: [4, 8]` reads well
            return ",".join(str(each) for each in value)
        case "str", int() | float():
            return str(value)
        case "float", int():
            return float(value)
        case "float", str():  # YAML 1.1 reads 5e-5 as text
            with contextlib.suppress(ValueError):
                return float(value)
    return value


def _check_choices(value: object, choices: tuple[str, ...], where: str) -> None:
    if choices and value not in choices:
        hint = did_you_mean(str(value), choices)
        raise ParamsError(f"{where}: expected one of {', '.join(choices)}, found {value!r}.{hint}")


def _check_limits(value: Any, limits: Mapping[str, float | None], where: str) -> None:
    if value is None:
        return
    low, floor, ceiling = limits["above"], limits["at_least"], limits["at_most"]
    if low is not None and not value > low:
        raise ParamsError(f"{where}: expected more than {low}, found {value}.")
    if floor is not None and not value >= floor:
        raise ParamsError(f"{where}: expected at least {floor}, found {value}.")
    if ceiling is not None and not value <= ceiling:
        raise ParamsError(f"{where}: expected at most {ceiling}, found {value}.")
