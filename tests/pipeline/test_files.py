"""pytest tests/pipeline/test_files.py."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.files import (
    building,
    canonical_json,
    exchange,
    folder_size_bytes,
    partial_path,
    read_json,
    write_atomic,
    write_json,
)


def folder_with(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def content_of(path: Path) -> str:
    return (path / "file").read_text()


def test_canonical_json_is_one_string_for_one_value() -> None:
    one = canonical_json({"b": [1, 2.5, None], "ä": True})
    other = canonical_json({"ä": True, "b": [1, 2.5, None]})
    assert one == other == '{"b":[1,2.5,null],"ä":true}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_has_no_numbers_that_are_none(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(value)
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


def test_write_json_is_read_back_and_ends_with_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/a.json"
    write_json(path, {"b": "ä", "a": 1})
    assert path.read_text("utf-8") == '{\n  "a": 1,\n  "b": "ä"\n}\n'
    assert read_json(path) == {"a": 1, "b": "ä"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_read_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: not valid JSON"):
        read_json(path)
    with pytest.raises(DataError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_building_publishes_only_what_was_finished(tmp_path: Path) -> None:
    target = tmp_path / "deep/out"
    with building(target) as folder:
        (folder / "file").write_text("new")
        assert not target.exists()
    assert content_of(target) == "new"
    with pytest.raises(RuntimeError), building(target) as folder:  # noqa: PT012
        (folder / "file").write_text("half")
        raise RuntimeError
    assert content_of(target) == "new"
    assert list(target.parent.iterdir()) == [target]


def test_building_starts_empty_after_a_kill(tmp_path: Path) -> None:
    target = tmp_path / "out"
    folder_with(partial_path(target), "of a killed run")
    with building(target) as folder:
        assert not list(folder.iterdir())


def test_building_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = folder_with(tmp_path / "out", "old")
    (target / "extra").write_text("old too")
    with building(target) as folder:
        (folder / "file").write_text("new")
    assert [path.name for path in target.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [target]


def test_while_it_is_replaced_there_is_always_one_or_the_other(tmp_path: Path) -> None:
    target = folder_with(tmp_path / "out", "0")
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not target.exists():
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(50):
        with building(target) as folder:
            (folder / "file").write_text(str(turn))
    stop.set()
    watcher.join()
    assert not missing
    assert content_of(target) == "49"


class _Library:
    """A C library whose renameat2 fails with `number`, or is missing."""

    def __init__(self, number: int | None) -> None:
        if number is not None:
            self.renameat2 = lambda *_: ctypes.set_errno(number) or -1


@pytest.mark.parametrize("number", [None, errno.EINVAL, errno.ENOSYS])
def test_exchange_works_where_the_system_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(number))
    one, other = folder_with(tmp_path / "a", "a"), folder_with(tmp_path / "b", "b")
    folder_with(tmp_path / ".b.old", "left by a kill")
    exchange(one, other)
    assert (content_of(one), content_of(other)) == ("b", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_exchange_tells_other_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(errno.EACCES))
    one, other = folder_with(tmp_path / "a", "a"), folder_with(tmp_path / "b", "b")
    with pytest.raises(PermissionError):
        exchange(one, other)
    assert (content_of(one), content_of(other)) == ("a", "b")


def test_exchange_of_the_real_system(tmp_path: Path) -> None:
    one, other = folder_with(tmp_path / "a", "a"), folder_with(tmp_path / "b", "b")
    exchange(one, other)
    assert (content_of(one), content_of(other)) == ("b", "a")
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "none", other)


def test_folder_size_counts_files_below(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"4567")
    assert folder_size_bytes(tmp_path) == 7


def test_records_are_json_of_plain_values(tmp_path: Path) -> None:
    content: dict[str, Any] = {"path": None, "list": [1, "two"]}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_bytes()) == content
