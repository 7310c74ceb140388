"""pytest tests/pipeline/store/test_place.py - what is read, of which folder, in which requests."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pipeline.errors import CacheCorruptError, CacheError
from pipeline.store import remote as module
from pipeline.store.place import LocalPlace, Place, place_of, require_inside
from pipeline.store.remote import RemotePlace, traffic
from tests.support.s3 import LocalS3, local_s3

CONTENT = np.random.default_rng(0).bytes(1000)
OUTSIDE = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "a\0b",
    "a\nb",
]


@pytest.fixture(scope="module")
def s3() -> Iterator[LocalS3]:
    with pytest.MonkeyPatch.context() as patch, local_s3(patch) as found:
        yield found


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """`a/b` of 1000 bytes, and `empty`."""
    url = {
        "folder": str(tmp_path / "c"), "file": f"file://{tmp_path}/c", "memory": "memory://t/c/",
    }.get(request.param)  # fmt: skip
    url = url or request.getfixturevalue("s3").url(f"{tmp_path.name}/c")
    fs, root = fsspec.core.url_to_fs(url)
    if request.param in ("folder", "file"):
        (tmp_path / "c" / "a").mkdir(parents=True)
    for name, content in {"a/b": CONTENT, "empty": b""}.items():
        fs.pipe_file(f"{root}/{name}", content)
    yield place_of(url)
    if request.param == "memory":
        fs.store.clear()


# --- any place -----------------------------------------------------------------------------------


def test_names_sizes_and_whole_files(place: Place) -> None:
    assert place.exists()
    assert place.sizes() == {"a/b": 1000, "empty": 0}
    assert (place.size("a/b"), place.size("empty")) == (1000, 0)
    assert (place.size("a"), place.size("none"), place.size("a/b/c")) == (None, None, None)
    assert (place.read("a/b"), place.read("empty")) == (CONTENT, b"")
    for read in (place.read, place.digest):
        with pytest.raises(FileNotFoundError):
            read("none")


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, 1000), (0, 2000), (7, 11), (990, 1100), (5, 5), (9, 3), (500, None)],
)  # fmt: skip
def test_a_range(place: Place, start: int, stop: int | None) -> None:
    assert place.read("a/b", start, stop) == CONTENT[start:stop]


def test_a_range_beyond_the_end_is_empty(place: Place) -> None:
    """S3 answers 416 to it."""
    assert place.read("a/b", 1000, 1001) == b""
    assert place.read("a/b", 5000, 6000) == b""
    assert place.read("empty", 0, 10) == b""


@pytest.mark.parametrize("piece", [1, 7, 250, 999, 1000, 1001, 1 << 20])
def test_a_digest_in_pieces_is_that_of_the_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    if "s3://" in place.text:
        piece = max(piece, 100)  # a thousand requests would tell no more
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    assert place.digest("a/b") == hashlib.sha256(CONTENT).hexdigest()
    assert place.digest("empty") == hashlib.sha256(b"").hexdigest()
    assert place.read("a/b") == CONTENT


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_folder_is_refused(place: Place, name: str) -> None:
    with pytest.raises(CacheCorruptError, match="is not the name of a file of a cache"):
        require_inside(name, "here")
    for read in (place.size, place.read, place.digest):
        with pytest.raises(CacheCorruptError, match="is not the name of a file of a cache"):
            read(name)


def test_a_place_that_is_not_there(tmp_path: Path, s3: LocalS3) -> None:
    for text in (str(tmp_path / "none"), "memory://none", s3.url("none")):
        place = place_of(text)
        assert not place.exists()
        assert (place.sizes(), place.size("a")) == ({}, None)


# --- a folder ------------------------------------------------------------------------------------


def test_links_and_devices_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "outside" / "x").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("s")
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside" / "secret")
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "nowhere").symlink_to(tmp_path / "none")
    (folder / "itself").symlink_to("itself")
    os.mkfifo(folder / "fifo")
    place = LocalPlace(folder)
    odd = ("link", "folder", "nowhere", "itself", "fifo")
    assert place.sizes() == dict.fromkeys(odd)
    for name in (*odd, "folder/secret", "folder/x", "n" * 300):
        assert place.size(name) is None
        for read in (place.read, place.digest):  # a read of the fifo would wait for ever
            with pytest.raises(FileNotFoundError):
                read(name)


def test_a_folder_reached_through_a_link(tmp_path: Path) -> None:
    """Where a cache lies is the user's own choice; what is in it is not."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert place_of(tmp_path / "link").read("a") == b"x"


def test_a_link_to_itself_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("loop", "file"):
        place = place_of(tmp_path / name)
        assert place.exists()
        assert (place.size("a"), place.sizes()) == (None, {})


# --- a URL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nowhere://a/b", "nowhere://a/b: cannot be opened: Protocol not known: nowhere"),
        ("s3://", "s3://: names no folder; expected an address such as s3://team/c"),
        ("memory:///", "memory:///: names no folder"),
    ],
)
def test_a_url_that_cannot_be_one(url: str, text: str) -> None:
    with pytest.raises(CacheError) as found:
        place_of(url)
    assert text in str(found.value)


def test_each_answer_is_of_now(s3: LocalS3) -> None:
    """Another program writes and removes after fsspec has remembered a listing."""
    place = place_of(s3.url("now"))
    elsewhere = type(fsspec.filesystem("s3"))(skip_instance_cache=True, **s3.storage_options)
    root = f"{s3.bucket}/now"
    elsewhere.pipe_file(f"{root}/t/a", b"1")
    assert place.sizes() == {"t/a": 1}
    elsewhere.pipe_file(f"{root}/t/a", b"123")
    elsewhere.pipe_file(f"{root}/t/b", b"1")
    assert (place.size("t/a"), place.size("t/b")) == (3, 1)
    assert place.sizes() == {"t/a": 3, "t/b": 1}
    elsewhere.rm(root, recursive=True)
    assert (place.size("t/a"), place.exists(), place.sizes()) == (None, False, {})


def test_what_marks_a_folder_is_no_file(s3: LocalS3) -> None:
    """The S3 console makes an empty object `c/` for "Create folder"."""
    place = RemotePlace(s3.url("marked"))
    for name in ("", "train/", "train/a"):
        place.fs.pipe_file(f"{place.root}/{name}", b"")
    place.fs.pipe_file(f"{place.root}2/other", b"")  # only its name begins like the folder's
    assert place.sizes() == {"train/a": 0}


def test_a_missing_bucket_is_not_a_missing_cache(s3: LocalS3) -> None:
    with pytest.raises(CacheError, match=r"s3://gone/c: The specified bucket does not exist\. Che"):
        place_of("s3://gone/c").size("a")
    assert s3.bucket


def http_requests(place: RemotePlace) -> list[str]:
    """What goes over the network from now on."""
    found: list[str] = []
    place.fs.connect()
    place.fs.s3.meta.events.register(
        "request-created.s3", lambda request, **_: found.append(f"{request.method} {request.url}")
    )
    return found


def test_requests_and_bytes_are_those_of_the_network(s3: LocalS3) -> None:
    fsspec.filesystem("s3").pipe_file(f"{s3.bucket}/count/a", CONTENT)
    place = RemotePlace(s3.url("count"))
    seen = http_requests(place)
    place.size("a")
    place.read("a")
    place.read("a", 10, 20)
    place.digest("a")
    place.sizes()
    assert [each.split()[0] for each in seen] == ["HEAD", "GET", "GET", "GET", "GET"]
    assert (place.requests, place.received_bytes) == (5, 1000 + 10 + 1000)
    assert traffic(place, 4_000_000) == (
        f"read s3://{s3.bucket}/count: 5 requests, 0.00 MB of 4.00 MB"
    )


def test_traffic_without_a_whole() -> None:
    place = RemotePlace("memory://t/none")
    assert place.size("a") is None
    assert traffic(place) == "read memory://t/none: 1 requests, 0.00 MB"


def test_traffic_of_what_was_not_asked(tmp_path: Path) -> None:
    assert traffic(LocalPlace(tmp_path), 5) is None
    assert traffic(place_of("memory://t/c"), 5) is None


def test_a_place_of_a_place_is_itself(tmp_path: Path) -> None:
    for place in (LocalPlace(tmp_path), RemotePlace("memory://t/c")):
        assert place_of(place) is place


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_threads_read_right_bytes_and_are_counted(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Each sees its own range, and each request is counted."""
    url = "memory://threads" if kind == "memory" else request.getfixturevalue("s3").url("threads")
    place, reads = RemotePlace(url), 400 if kind == "memory" else 40
    place.fs.pipe_file(f"{place.root}/a", CONTENT)

    def read(number: int) -> bool:
        start = number * 37 % 900
        return place.read("a", start, start + 100) == CONTENT[start : start + 100]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(reads)))
    assert (place.requests, place.received_bytes) == (reads, 100 * reads)


def test_what_is_no_object_store_is_asked_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, inside = RemotePlace("memory://threads"), []

    def cat_file(path: str, **_: object) -> bytes:
        inside.append(path)
        time.sleep(0.001)
        assert len(inside) == 1
        return inside.pop().encode()

    monkeypatch.setattr(place.fs, "cat_file", cat_file)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: place.read("a", 0, 9), range(40))) == {b"/threads/a"}


def test_a_remote_place_can_be_sent_to_another_process() -> None:
    place = RemotePlace("memory://sent/c")
    again = pickle.loads(pickle.dumps(place))
    assert (again.text, again.root) == (place.text, place.root)
