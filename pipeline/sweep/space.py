"""What a sweep tries: lists of values, or ranges, of the parameters of `pkd-student fit`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ParamsError
from pipeline.params import StudentParams
from pipeline.resolve import parse_value

NOT_SWEPT = ("preset", "device", "eval_batch_size")


@dataclass(frozen=True)
class Values:
    """Values to try, in their order."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included."""

    low: float
    high: float
    log: bool
    """Drawn evenly on a logarithmic scale."""
    whole: bool = False
    """Whole numbers alone."""


Space = dict[str, Values | Range]


def parse_space(settings: Sequence[str], grid: Mapping[str, Sequence[Any]] | None = None) -> Space:
    """Read what is to be tried.

    Args:
        settings: texts such as `temperature=5,10`, `strategy=skip;2,4` (semicolons where values
            have commas) or `learning_rate=1e-5..1e-4:log`.
        grid: of a preset; a setting of the same name replaces it.

    Raises:
        ParamsError: another form, an unknown parameter, or a value out of range.
    """
    space: Space = {}
    for name, values in (grid or {}).items():
        space[name] = _values(name, values)
    for text in settings:
        name, equals, rest = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not rest.strip():
            raise ParamsError(
                f"--set {text}: expected NAME=VALUE,VALUE,... or NAME=LOW..HIGH, such as "
                "temperature=5,10,20."
            )
        if name in NOT_SWEPT:
            raise ParamsError(f"--set {name}: changes no student; pass it as --{name}.")
        separator = ";" if ";" in rest else ","
        space[name] = _range(name, rest) or _values(name, rest.split(separator))
    if not space:
        raise ParamsError("Nothing to try: pass --set NAME=VALUE,VALUE, or a --preset with a grid.")
    return space


def _values(name: str, values: Sequence[Any]) -> Values:
    parsed = [_one(name, value) for value in values]
    return Values(tuple(dict.fromkeys(parsed)))


def _one(name: str, value: Any) -> Any:
    text = value.strip() if isinstance(value, str) else value
    words = {"true": True, "false": False, "none": None}
    known = words.get(text.lower(), text) if isinstance(text, str) else text
    return parse_value(StudentParams, name, _number(known), f"--set {name}")


def _number(value: Any) -> Any:
    """Numbers of a command line as what YAML would make of them."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _range(name: str, text: str) -> Range | None:
    ends, _, scale = text.partition(":")
    low, dots, high = ends.partition("..")
    if not dots:
        return None
    if scale not in ("", "log"):
        raise ParamsError(f"--set {name}={text}: expected LOW..HIGH or LOW..HIGH:log.")
    both = _one(name, low), _one(name, high)
    numbers = [
        each for each in both if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) < 2 or not numbers[0] < numbers[1]:
        raise ParamsError(f"--set {name}={text}: expected two numbers, the lower one first.")
    whole = all(isinstance(each, int) for each in numbers)
    found = Range(float(numbers[0]), float(numbers[1]), log=scale == "log", whole=whole)
    if found.log and found.low <= 0:
        raise ParamsError(f"--set {name}={text}: a logarithmic scale needs numbers above 0.")
    return found


def all_points(space: Space) -> list[dict[str, Any]]:
    """Every combination, the last parameter fastest; raises ParamsError for ranges."""
    lists = []
    for name, values in space.items():
        if isinstance(values, Range):
            raise ParamsError(f"--set {name}: a range has no grid; pass --sampler tpe or random.")
        lists.append([(name, value) for value in values.values])
    return [dict(point) for point in itertools.product(*lists)]


def describe_space(space: Space) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        name: {"values": list(values.values)} if isinstance(values, Values) else asdict(values)
        for name, values in space.items()
    }


def slug(point: Mapping[str, Any], told: Sequence[str]) -> str:
    """A point as a part of a folder's name; `told` are parameters that the name has already."""
    parts = [f"{name}={_short(value)}" for name, value in point.items() if name not in told]
    return "-".join(parts)


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("/", "_").replace(",", "_")
