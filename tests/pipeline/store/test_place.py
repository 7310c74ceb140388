"""pytest tests/pipeline/store/test_place.py - where a cache lies, and what is never reached."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import CacheCorruptError, CacheError
from pipeline.store.place import LocalPlace, RemotePlace, place_of, require_inside, traffic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "f"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "a").write_bytes(bytes(range(100)))
    return folder


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "train/../../a", "train//a", ".", "", "a\\b", "a\0", "a\nb"]
)
def test_a_name_that_could_leave_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CacheCorruptError, match="is not the name of a file of a cache"):
        require_inside(name, "x")
    for place in (LocalPlace(folder), RemotePlace("memory://anything")):
        with pytest.raises(CacheCorruptError):
            place.read(name)


@pytest.mark.parametrize("local", [True, False])
def test_files_are_read_whole_in_pieces_and_by_digest(folder: Path, local: bool) -> None:
    if not local:
        fsspec.filesystem("memory").put(str(folder), f"/{folder.parent.name}", recursive=True)
    place = place_of(folder if local else f"memory://{folder.parent.name}")
    assert place.sizes() == {"train/a": 100}
    assert place.read("train/a") == bytes(range(100))
    assert place.read("train/a", 10, 13) == b"\x0a\x0b\x0c"
    assert place.read("train/a", 98, 200) == b"\x62\x63"
    assert place.digest("train/a") == hashlib.sha256(bytes(range(100))).hexdigest()
    assert place.size("train/b") is None
    with pytest.raises(FileNotFoundError):
        place.read("train/b")


def test_links_folders_and_devices_are_no_files(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "train" / "a")
    (folder / "linked").symlink_to(folder / "train")
    os.mkfifo(folder / "pipe")
    place = LocalPlace(folder)
    assert place.sizes() == {"train/a": 100, "link": None, "linked": None, "pipe": None}
    for name in ("link", "linked/a", "pipe", "train"):
        assert place.size(name) is None
        with pytest.raises(FileNotFoundError):
            place.read(name)


def test_a_file_url_is_a_folder(folder: Path) -> None:
    assert place_of(f"file://{folder}") == LocalPlace(folder)


def test_requests_are_counted(folder: Path) -> None:
    fsspec.filesystem("memory").put(str(folder), f"/n-{folder.parent.name}", recursive=True)
    place = RemotePlace(f"memory://n-{folder.parent.name}")
    place.read("train/a", 0, 40)
    place.read("train/a")
    found = traffic(place, 2_000_000)
    assert found == f"read {place.text}: 2 requests, 0.00 MB of 2.00 MB"
    assert place.received_bytes == 140
    assert traffic(LocalPlace(folder), 100) is None


def test_a_storage_that_no_library_speaks_to(folder: Path) -> None:
    with pytest.raises(CacheError, match=r"nowhere://x: cannot be opened"):
        place_of("nowhere://x")
