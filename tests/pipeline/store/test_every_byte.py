"""pytest tests/pipeline/store/test_every_byte.py - no byte of a cache changes unnoticed.

One small cache of each type. With `PKD_SOAK=1` every byte of every file, else every 40th.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import CacheCorruptError, CacheError
from pipeline.store.check import check_cache
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.place import place_of
from pipeline.store.reader import TeacherCache
from tests.support.synthetic import LAYERS, files_of, write

STEP = 1 if os.environ.get("PKD_SOAK") else 40
ROWS, SHARD_ROWS = 5, 4

Property = Callable[[str, object], None]


@pytest.fixture(params=["float16", "int8"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A cache of two shards, the second one not full."""
    write(tmp_path / "c.zarr", rows=ROWS, shard_rows=SHARD_ROWS, dtype=request.param)
    return tmp_path / "c.zarr"


def found_in(cache: Path) -> list[str]:
    """What verify finds, by file; the manifest's own damage included."""
    try:
        return [each.file for each in check_cache(cache)]
    except CacheError as error:
        return [str(error)]


def names_file(found: list[str], name: str) -> bool:
    """Whether verify named this file and, the manifest apart, no other."""
    return len(found) == 1 and (found == [name] or f"/{name}: " in found[0])


def flips(cache: Path, names: list[str]) -> Iterator[tuple[str, int]]:
    """Flip one bit at a time, and mend it: (file, byte). The first and last byte are among them."""
    for name in names:
        whole = (cache / name).read_bytes()
        for place in sorted({*range(0, len(whole), STEP), len(whole) - 1}):
            content = bytearray(whole)
            content[place] ^= 1 << (3 * place + place // 8) % 8
            (cache / name).write_bytes(content)
            yield name, place
        (cache / name).write_bytes(whole)


@pytest.mark.soak
def test_verify_finds_every_flipped_byte(small: Path, record_property: Property) -> None:
    trials = 0
    for name, place in flips(small, sorted(files_of(small))):
        assert names_file(found_in(small), name), (name, place)
        trials += 1
    record_property("flipped bytes, all found by verify", trials)
    assert found_in(small) == []


def read_all(cache: Path, manifest: Manifest) -> dict[str, Any]:
    """Every value of a cache; an error in the place of what cannot be read."""
    opened = TeacherCache(place_of(cache), manifest)
    found: dict[str, Any] = {}
    readers: dict[str, Callable[[], Any]] = {
        "examples": lambda: opened.examples("train").to_pydict(),
        "logits": lambda: opened.logits("train").tolist(),
        "cls": lambda: opened.cls("train", LAYERS).astype(np.float64).tolist(),
    }
    for name, read in readers.items():
        try:
            found[name] = read()
        except CacheCorruptError as error:
            found[name] = error
    return found


@pytest.mark.soak
def test_no_flipped_byte_is_read_as_another_value(small: Path, record_property: Property) -> None:
    """Without verify: an error, or the values that were written; only that kind of value fails."""
    manifest = read_manifest(small)
    sound, raised, harmless = read_all(small, manifest), 0, 0
    kinds = {"cls": "cls", "cls_scale": "cls", "logits": "logits", "examples.arrow": "examples"}
    names = [name for name in sorted(files_of(small)) if name.count("/") > 1 or ".arrow" in name]
    for name, place in flips(small, names):
        found, kind = read_all(small, manifest), kinds[name.split("/")[1]]
        assert {other: found[other] for other in found if other != kind} == {
            other: sound[other] for other in sound if other != kind
        }
        if isinstance(found[kind], CacheCorruptError):
            assert "pkd-cache verify" in str(found[kind]), (name, place)
            raised += 1
        else:
            assert found[kind] == sound[kind], (name, place)
            harmless += 1
    record_property("flipped bytes that reading refused", raised)
    record_property("flipped bytes that did not matter to reading", harmless)
    assert raised > 20
    assert read_all(small, manifest) == sound


CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda raw: None,
    "empty": lambda raw: b"",
    "a byte less": lambda raw: raw[:-1],
    "a byte less at its start": lambda raw: raw[1:],
    "a byte more": lambda raw: raw + b"\0",
    "a line end more": lambda raw: raw + b"\n",
    "twice": lambda raw: raw + raw,
    "one byte": lambda raw: raw[:1],
    "zeros": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_finds_every_file_of_another_size(small: Path, change: str) -> None:
    for name, whole in files_of(small).items():
        changed = CHANGES[change](whole)
        if changed is None:
            (small / name).unlink()
        else:
            (small / name).write_bytes(changed)
        found = found_in(small)
        if name == "manifest.json" and changed is None:
            assert "it has no manifest.json" in found[0]
        else:
            assert names_file(found, name), (name, found)
        (small / name).write_bytes(whole)
    assert found_in(small) == []


def test_verify_finds_a_file_that_was_added_anywhere(small: Path) -> None:
    folders = [small, *(path for path in small.rglob("*") if path.is_dir())]
    for folder in folders:
        for name in ("x", ".hidden", "9", "c", "zarr.json", ".zarray", "manifest.json.tmp"):
            path = folder / name
            if path.exists():
                continue
            path.write_bytes(b"")
            assert found_in(small) == [path.relative_to(small).as_posix()]
            path.unlink()
    assert found_in(small) == []


def test_verify_finds_files_that_changed_places(small: Path) -> None:
    """Every pair of files of one kind: sound bytes of this cache, where they do not belong."""
    files = files_of(small)
    for name, content in files.items():
        for other, of_other in files.items():
            same_kind = name.rpartition("/")[2] == other.rpartition("/")[2]
            if name < other and same_kind and content != of_other:
                (small / name).write_bytes(of_other)
                (small / other).write_bytes(content)
                assert sorted(found_in(small)) == [name, other]
                (small / name).write_bytes(content)
                (small / other).write_bytes(of_other)
    assert found_in(small) == []
