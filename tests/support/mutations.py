"""Damage by chance, for fuzzing: of bytes, and of JSON values; all of it follows from `Random`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

ODD_NUMBERS = [
    -1, 0, 1, 2, 7, 127, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 31, (1 << 31) - 1, (1 << 32) - 1,
    1 << 40, 1 << 53, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**30, 10**400,
    0.0, -0.0, 1.0, 0.5, 1e308, 1e-308, float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
ODD_TEXTS = [
    "", "x", "..", "../x", "/", "/etc/passwd", "a\\b", "\0", "\x1b[2J", "\n", "\ud800", "\u202e",
    "NaN", "Infinity", "-1", "1e999", "train", "cls", "zarr.json", "pickle", "object", "float64",
    "0" * 64, "f" * 64, "x" * 5000, "\U0001f600", "None",
]  # fmt: skip
ODD_VALUES: list[Any] = [None, True, False, [], {}, [[]], {"": {}}, [None], {"name": "pickle"}]

Bytes = Callable[[Random, bytes], bytes]
Place = tuple[Any, Any]
"""A container and the key or index of a value in it."""


def mutate_bytes(draw: Random, raw: bytes) -> bytes:
    """Change a file in one to three ways."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        raw = draw.choice(OF_BYTES)(draw, raw)
    return raw


def _flip(draw: Random, raw: bytes) -> bytes:
    found = bytearray(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        if found:
            found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def _cut(draw: Random, raw: bytes) -> bytes:
    start, size = draw.randrange(len(raw) + 1), draw.choice((1, 4, 8, 64, len(raw)))
    return raw[:start] + raw[start + size :]


def _insert(draw: Random, raw: bytes) -> bytes:
    start, size = draw.randrange(len(raw) + 1), draw.choice((1, 4, 8, 64))
    return raw[:start] + draw.randbytes(size) + raw[start:]


def _repeat(draw: Random, raw: bytes) -> bytes:
    start, size = draw.randrange(len(raw) + 1), draw.choice((1, 8, 64, 512))
    return raw[: start + size] + raw[start:]


def _move(draw: Random, raw: bytes) -> bytes:
    """A piece over another place."""
    size = draw.choice((4, 8, 16, 64))
    source, target = draw.randrange(len(raw) + 1), draw.randrange(len(raw) + 1)
    piece = raw[source : source + size]
    return raw[:target] + piece + raw[target + len(piece) :]


def _number(draw: Random, raw: bytes) -> bytes:
    """An odd number in binary, where one may have been."""
    code, size = draw.choice((("<I", 4), ("<Q", 8), ("<H", 2)))
    place = draw.randrange(len(raw) + 1) // size * size
    value = draw.choice([each for each in ODD_NUMBERS if isinstance(each, int)])
    packed = struct.pack(code, value & ((1 << 8 * size) - 1))
    return raw[:place] + packed + raw[place + size :]


def _text(draw: Random, raw: bytes) -> bytes:
    """A number or a name of a text replaced by an odd one."""
    start = draw.randrange(len(raw) + 1)
    odd = draw.choice((str(draw.choice(ODD_NUMBERS[:-1])), draw.choice(ODD_TEXTS)))
    return raw[:start] + odd.encode("utf-8", "surrogatepass") + raw[start + len(odd) :]


OF_BYTES: list[Bytes] = [
    _flip,
    _flip,
    _flip,
    _cut,
    _insert,
    _repeat,
    _move,
    _number,
    _number,
    _text,
]


def mutate_json(draw: Random, value: Any) -> Any:
    """Change one to three places of a JSON value, at any depth."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if places:
            draw.choice(OF_JSON)(draw, draw.choice(places), places)
    return value


def _places(value: Any) -> list[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[Place] = []
    for key, each in items:
        found.append((value, key))
        if isinstance(each, dict | list):
            found += _places(each)
    return found


def _replace(draw: Random, place: Place, _: list[Place]) -> None:
    place[0][place[1]] = draw.choice(draw.choice((ODD_NUMBERS, ODD_TEXTS, ODD_VALUES)))


def _delete(draw: Random, place: Place, _: list[Place]) -> None:
    del place[0][place[1]]


def _copy(draw: Random, place: Place, places: list[Place]) -> None:
    """The value of another place."""
    container, key = draw.choice(places)
    place[0][place[1]] = json.loads(json.dumps(container[key]))


def _nudge(draw: Random, place: Place, _: list[Place]) -> None:
    """A number a little or much larger; a text or list shorter or longer."""
    value: Any = place[0][place[1]]
    if isinstance(value, int):
        place[0][place[1]] = draw.choice((value + 1, value - 1, -value, value * 2, value << 32))
    elif type(value) in (str, list):
        place[0][place[1]] = draw.choice((value[:-1], value[1:], value + value, value[::-1]))


def _retype(draw: Random, place: Place, _: list[Place]) -> None:
    value = place[0][place[1]]
    made: list[Any] = [[value], {"": value}, str(value), bool(value)]
    if isinstance(value, int):
        made.append(float(value))
    place[0][place[1]] = draw.choice(made)


def _add(draw: Random, place: Place, _: list[Place]) -> None:
    """One more member, or the same one under another name."""
    container, key = place
    if isinstance(container, list):
        container.insert(key, container[key])
    else:
        container[draw.choice(ODD_TEXTS)] = container[key]


def _rename(draw: Random, place: Place, _: list[Place]) -> None:
    container, key = place
    if isinstance(container, dict):
        odd = (*ODD_TEXTS, f"{key}x", key[1:], key.upper(), key.replace("/", "//"))
        container[draw.choice(odd)] = container.pop(key)
    else:
        draw.shuffle(container)


OF_JSON: list[Callable[[Random, Place, list[Place]], None]] = [
    _replace, _replace, _delete, _copy, _nudge, _nudge, _retype, _add, _rename,
]  # fmt: skip
