"""pytest tests/pipeline/store/test_copy.py - copies between folders, memory:// and S3."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner, Result

from benchmarks.synthetic import synthetic_cache
from pipeline import files
from pipeline.errors import (
    BusyError,
    CacheCorruptError,
    CacheError,
    OutputExistsError,
    ParamsError,
)
from pipeline.locks import locked
from pipeline.store import copy as module
from pipeline.store.check import check_cache
from pipeline.store.copy import copy_cache
from pipeline.store.manifest import read_manifest
from pipeline.store.place import place_of
from pipeline.store.remote import PIECE_BYTES, RemotePlace
from pipeline.store.upload import UPLOAD_BYTES
from stages.cache import cli
from tests.support.s3 import LocalS3, local_s3
from tests.support.synthetic import files_of, write

OTHER_ROWS = 60  # more shards than the cache has: files that must go when it is replaced


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two caches, only to be read: c.zarr and other.zarr."""
    folder = tmp_path_factory.mktemp("made")
    write(folder / "c.zarr", dtype="int8")
    write(folder / "other.zarr", out_of_fold=("train",), rows=OTHER_ROWS)
    return folder


@pytest.fixture
def cache(made: Path) -> Path:
    return made / "c.zarr"


@pytest.fixture
def other(made: Path) -> Path:
    return made / "other.zarr"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A cache to harm."""
    write(tmp_path / "own.zarr", dtype="int8")
    return tmp_path / "own.zarr"


@pytest.fixture(scope="module")
def s3() -> Iterator[LocalS3]:
    with pytest.MonkeyPatch.context() as patch, local_s3(patch) as found:
        yield found


@pytest.fixture
def memory() -> Iterator[str]:
    """A URL where nothing is yet."""
    fs = fsspec.filesystem("memory")
    yield "memory://team/d.zarr"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture(params=["folder", "memory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place where nothing is yet."""
    if request.param == "folder":
        return str(tmp_path / "there" / "d.zarr")
    if request.param == "memory":
        return str(request.getfixturevalue("memory"))
    server: LocalS3 = request.getfixturevalue("s3")
    return server.url(f"{tmp_path.name}/d.zarr")


def there(target: str) -> dict[str, bytes]:
    """Every file at a target: name -> content."""
    if "://" not in target:
        return files_of(Path(target))
    place = place_of(target)
    return {name: place.read(name) for name in place.sizes()}


def put(target: str, name: str, content: bytes | None) -> None:
    """Write a file at a target; None removes it."""
    fs, root = fsspec.core.url_to_fs(target)
    if content is None:
        fs.rm_file(f"{root}/{name}")
        return
    fs.pipe_file(f"{root}/{name}", content)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["copy", *map(str, arguments)])


# --- what a copy is ------------------------------------------------------------------------------


def test_there_and_back_the_bytes_are_the_same(cache: Path, target: str, tmp_path: Path) -> None:
    told: list[int] = []
    whole = read_manifest(cache)

    def tick(what: str, done: int, total: int, **_: float) -> None:
        assert (what, total) == ("bytes", whole.total_bytes)
        told.append(done)

    done = copy_cache(cache, target, tick=tick)
    assert done.copied_files == len(whole.files) == len(files_of(cache)) - 1
    assert (done.copied_bytes, done.kept_files, done.existed) == (whole.total_bytes, 0, False)
    assert told == sorted(set(told))
    assert (told[0], told[-1]) == (0, whole.total_bytes)
    assert check_cache(target) == []
    again = copy_cache(cache, target)
    assert (again.existed, again.copied_files) == (True, 0)
    copy_cache(target, tmp_path / "back.zarr")
    assert files_of(tmp_path / "back.zarr") == files_of(cache)
    hidden = {path.name for path in tmp_path.rglob(".*")}
    assert hidden <= {".back.zarr.lock", ".d.zarr.lock"}


def test_a_large_file_passes_in_pieces(tmp_path: Path, s3: LocalS3, memory: str) -> None:
    """A shard of 19 MB: several parts of an upload, and little memory at any time."""
    source = tmp_path / "large.zarr"
    synthetic_cache(source, rows=1024, layers=12, hidden=768, length=8)
    shard = "train/cls/c/0/0/0"
    size = read_manifest(source).sizes[shard]
    assert size > UPLOAD_BYTES > PIECE_BYTES
    tracemalloc.start()
    copy_cache(source, tmp_path / "local.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2.5 * PIECE_BYTES
    tracemalloc.stop()
    copy_cache(tmp_path / "local.zarr", s3.url("large.zarr"))
    copy_cache(s3.url("large.zarr"), memory)
    assert place_of(memory).read(shard) == (source / shard).read_bytes()

    content = bytearray((source / shard).read_bytes())
    content[-1] ^= 1  # in the last piece, when parts have been sent
    (source / shard).write_bytes(content)
    with pytest.raises(CacheCorruptError, match=r"c/0/0/0: has other bytes"):
        copy_cache(source, s3.url("damaged.zarr"))
    remote = RemotePlace(s3.url("damaged.zarr"))
    assert shard not in remote.sizes()
    uploads = remote.fs.call_s3("list_multipart_uploads", Bucket=s3.bucket)
    assert not uploads.get("Uploads")


def test_through_a_link_to_where_it_leads(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zarr").symlink_to(tmp_path / "disk" / "d.zarr")
    copy_cache(cache, tmp_path / "link.zarr")
    assert (tmp_path / "link.zarr").is_symlink()
    assert files_of(tmp_path / "disk" / "d.zarr") == files_of(cache)
    assert copy_cache(cache, f"file://{tmp_path}/link.zarr").existed


# --- stopped at any moment -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `made`, with few files."""
    folder = tmp_path_factory.mktemp("small")
    write(folder / "c.zarr", rows=9)
    write(folder / "other.zarr", out_of_fold=("train",), rows=17)
    return folder


class Stop(BaseException):
    """Nothing of ours catches it, as nothing catches a kill."""


def stopping(before: int, after: int) -> Callable[..., Any]:
    """`RemotePlace.ask` that stops before or after so many requests."""
    real, count = RemotePlace.ask, 0

    def ask(self: RemotePlace, *values: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == before:
            raise Stop
        now = count
        try:
            return real(self, *values, **more)
        finally:
            if now == after:
                raise Stop

    return ask


@pytest.mark.parametrize("replaces", [False, True])
def test_a_copy_to_a_url_stopped_at_any_request_goes_on(
    small: Path, memory: str, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    cache, other = small / "c.zarr", small / "other.zarr"
    wanted, old = files_of(cache), files_of(other)
    fs = fsspec.filesystem("memory")
    moment, stopped = 0, True
    while stopped:
        moment += 1
        for ends in ({"before": moment, "after": 0}, {"before": 0, "after": moment}):
            fs.store.clear()
            if replaces:
                for name, content in old.items():
                    put(memory, name, content)
                put(memory, "notes.txt", b"of the other one")
            with monkeypatch.context() as patch:
                patch.setattr(RemotePlace, "ask", stopping(**ends))
                try:
                    copy_cache(cache, memory, overwrite=replaces)
                    stopped = False
                except Stop:
                    pass
            found = there(memory)
            if "manifest.json" in found:  # the old cache, or the new one: never half of one
                whole = wanted if found["manifest.json"] == wanted["manifest.json"] else old
                assert found.items() >= whole.items(), ends
            assert stopped or found == wanted
            kept = sum(found.get(name) == wanted[name] for name in read_manifest(cache).files)
            done = copy_cache(cache, memory, overwrite=replaces)
            assert there(memory) == wanted, ends
            if not done.existed:
                assert done.kept_files == kept, ends
    assert moment > len(wanted)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_copy_to_a_folder_killed_at_any_step_goes_on(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    """Stopped before each piece that is written, and before each step of the publishing."""
    cache, other = small / "c.zarr", small / "other.zarr"
    target, wanted = tmp_path / "d.zarr", files_of(cache)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    moment, stopped = 0, True
    while stopped:
        moment += 1
        for folder in (target, tmp_path / ".d.zarr.incoming"):
            shutil.rmtree(folder, ignore_errors=True)
        if replaces:
            copy_cache(other, target)
        with monkeypatch.context() as patch:
            count = 0

            def step(real: Callable[..., Any], *values: Any, now: int = moment, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == now:
                    raise Stop
                return real(*values, **more)

            steps = ("exchange", "sync_tree", "sync_folder", "share_as_folder")
            for name in steps:
                patch.setattr(files, name, partial(step, getattr(files, name)))
            patch.setattr(module, "write_atomic", partial(step, files.write_atomic))
            patch.setattr("shutil.rmtree", partial(step, shutil.rmtree))
            patch.setattr(module, "_checked", lambda *v, real=module._checked: (
                step(lambda piece: piece, piece) for piece in real(*v)
            ))  # fmt: skip
            try:
                copy_cache(cache, target, overwrite=replaces)
                stopped = False
            except Stop:
                pass
        assert files_of(target) in (files_of(other) if replaces else {}, wanted)
        copy_cache(cache, target, overwrite=replaces)
        assert files_of(target) == wanted
        assert not (tmp_path / ".d.zarr.incoming").exists()
    assert moment > len(wanted)


KILLED = """
import os, signal, sys
from pipeline.store import copy

def killed(*values, real=copy._checked):
    for piece in real(*values):
        yield piece[: len(piece) // 2]
        if sys.argv[3] == values[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece[len(piece) // 2 :]

copy._checked = killed
copy.copy_cache(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_process_leaves_half_a_file_and_the_next_one_goes_on(
    cache: Path, tmp_path: Path
) -> None:
    target, last = tmp_path / "d.zarr", "zarr.json"
    command = [sys.executable, "-c", KILLED, str(cache), str(target), last]
    root = Path(module.__file__).parents[2]
    killed = subprocess.run(command, cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    done = copy_cache(cache, target)  # the lock died with its process
    assert (done.copied_files, done.kept_files) == (1, len(files_of(cache)) - 2)
    assert check_cache(target) == []


def test_what_is_kept_has_the_right_bytes(cache: Path, target: str, other: Path) -> None:
    """Of an unfinished copy: a flipped byte, another length, a file of another cache."""
    name = "train/logits/c/1/0"
    if "://" in target:
        copy_cache(cache, target)
        put(target, "manifest.json", None)
    else:
        incoming = Path(target).parent / ".d.zarr.incoming"
        copy_cache(other, incoming)  # of another cache: more shards, other bytes
        for path, content in files_of(cache).items():
            (incoming / path).parent.mkdir(parents=True, exist_ok=True)
            (incoming / path).write_bytes(content)
        target = str(incoming)
    flipped = bytearray(there(target)[name])
    flipped[5] ^= 1
    put(target, name, bytes(flipped))
    put(target, "zarr.json", b"{}")
    target = target.replace(".d.zarr.incoming", "d.zarr")
    done = copy_cache(cache, target)
    assert (done.copied_files, done.kept_files) == (2, len(files_of(cache)) - 3)
    assert there(target) == files_of(cache)
    if "://" not in target:
        assert not (Path(target) / "train" / "cls" / "c" / "7").exists()  # no empty folders either


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "link", "shorter", "longer", "other bytes"])
def test_a_damaged_source_is_refused_by_name(
    own: Path, target: str, tmp_path: Path, damage: str
) -> None:
    shard = own / "train" / "cls" / "c" / "2" / "0" / "0"
    whole = shard.read_bytes()
    shard.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        shard.symlink_to(tmp_path / "elsewhere")
    elif damage != "missing":
        changed = {"shorter": whole[:-1], "longer": whole + b"\0"}
        shard.write_bytes(changed.get(damage, bytes([whole[0] ^ 1]) + whole[1:]))
    text = {
        "missing": "is missing, or no plain file", "link": "is missing, or no plain file",
        "shorter": "has not the", "longer": "has not the", "other bytes": "has other bytes",
    }[damage]  # fmt: skip
    message = rf"own\.zarr/train/cls/c/2/0/0: {text}.*not finished; run `pkd-cache verify"
    with pytest.raises(CacheCorruptError, match=message):
        copy_cache(own, target)
    assert "manifest.json" not in there(target)
    shard.unlink(missing_ok=True)
    shard.write_bytes(whole)
    done = copy_cache(own, target)
    assert done.kept_files > 0
    assert check_cache(target) == []


def test_a_source_that_is_no_cache(tmp_path: Path, s3: LocalS3) -> None:
    for source in (tmp_path / "none.zarr", s3.url("none.zarr"), "memory://none.zarr"):
        with pytest.raises(CacheError, match=r"none\.zarr: no such cache"):
            copy_cache(source, tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()


def test_storage_that_writes_other_bytes_is_noticed(
    cache: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("memory")
    honest = fs.pipe_file

    def bad(path: str, content: bytes) -> None:
        honest(path, content[:-1] + b"?" if path.endswith("logits/c/2/0") else content)

    monkeypatch.setattr(fs, "pipe_file", bad)
    with pytest.raises(CacheCorruptError, match=r"logits/c/2/0: reads back other bytes"):
        copy_cache(cache, memory)
    assert "manifest.json" not in there(memory)


def test_a_full_storage_is_one_message_and_the_copy_goes_on_later(
    cache: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("memory")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fs, "pipe_file", full)
        found = run(cache, memory)
    assert found.exit_code == 1
    assert "d.zarr: the storage did not answer as expected (" in found.stderr
    assert "No space left on device" in found.stderr
    assert "run the same command again" in found.stderr
    assert run(cache, memory).exit_code == 0


# --- what is there already -----------------------------------------------------------------------


def test_another_cache_is_replaced_only_when_asked(cache: Path, other: Path, target: str) -> None:
    copy_cache(other, target)
    rows = rf"rows {OTHER_ROWS} there, 37 now"
    with pytest.raises(OutputExistsError, match=rf"dtype float16 there, int8 now; {rows}.*--overw"):
        copy_cache(cache, target)
    assert there(target) == files_of(other)
    copy_cache(cache, target, overwrite=True)
    assert there(target) == files_of(cache)  # no file of the other one is left


def test_a_stopped_replacement_never_looks_whole_and_goes_on(
    cache: Path, other: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_cache(other, target)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy_file", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            copy_cache(cache, target, overwrite=True)
    if "://" in target:
        with pytest.raises(CacheError, match="not a finished cache"):
            read_manifest(target)
        with pytest.raises(OutputExistsError, match="train/cls/c/5/0/0.* never replaced"):
            copy_cache(cache, target)  # not the same command
    else:
        assert there(target) == files_of(other)
    copy_cache(cache, target, overwrite=True)
    assert there(target) == files_of(cache)


def test_a_damaged_copy_is_mended_when_asked(cache: Path, target: str) -> None:
    copy_cache(cache, target)
    name = "train/logits/c/0/0"
    put(target, name, None)
    with pytest.raises(OutputExistsError, match=rf"this cache, damaged \({name}: missing\)"):
        copy_cache(cache, target)
    assert copy_cache(cache, target, overwrite=True).existed is False
    put(target, name, bytes(len(there(target)[name])))
    assert copy_cache(cache, target).existed  # the sizes are right: `verify` finds it
    assert copy_cache(cache, target, overwrite=True).existed is False
    assert there(target) == files_of(cache)
    assert copy_cache(cache, target, overwrite=True).existed


def test_a_cache_with_a_damaged_manifest_is_still_one(cache: Path, target: str) -> None:
    copy_cache(cache, target)
    put(target, "manifest.json", (cache / "manifest.json").read_bytes() + b"}")
    with pytest.raises(OutputExistsError, match=r"a cache whose manifest is damaged.*--overwrite"):
        copy_cache(cache, target)
    copy_cache(cache, target, overwrite=True)
    assert there(target) == files_of(cache)


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json", "train/logits/c/0/0/mine"])
def test_what_is_no_cache_is_never_replaced(cache: Path, target: str, name: str) -> None:
    """A `manifest.json` of something else too."""
    content = b'{"name": "a web page", "icons": []}'
    if "://" not in target:
        (Path(target) / name).parent.mkdir(parents=True)
    put(target, name, content)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match=r"no finished cache .* never replaced"):
            copy_cache(cache, target, overwrite=overwrite)
    assert there(target) == {name: content}


def test_a_file_and_an_empty_folder(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "loop"):
        with pytest.raises(OutputExistsError, match="it is no folder"):
            copy_cache(cache, tmp_path / name, overwrite=True)
    (tmp_path / "empty").mkdir()
    copy_cache(cache, tmp_path / "empty")
    assert files_of(tmp_path / "empty") == files_of(cache)


def test_a_manifest_that_was_cut_off_is_an_unfinished_copy(cache: Path, memory: str) -> None:
    """Not every storage writes a file at once, as S3 does."""
    copy_cache(cache, memory)
    put(memory, "manifest.json", (cache / "manifest.json").read_bytes()[:99])
    done = copy_cache(cache, memory)
    assert (done.copied_files, done.kept_files) == (0, len(files_of(cache)) - 1)
    assert there(memory) == files_of(cache)


def test_one_inside_of_the_other(own: Path, s3: LocalS3) -> None:
    url = s3.url("inside/c.zarr")
    copy_cache(own, url)
    before = files_of(own)
    for source, wrong in (
        (own, own), (own, own / "train" / "x"), (own, own.parent), (own, f"file://{own}"),
        (url, url), (url, f"{url}/x"), (url, s3.url("inside")),
    ):  # fmt: skip
        with pytest.raises(ParamsError, match="choose another target"):
            copy_cache(source, wrong, overwrite=True)
    assert files_of(own) == before == there(url)
    copy_cache(url, s3.url("inside/c.zarr2"))  # only its name begins like the other's


def test_two_copies_to_one_folder(cache: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "d.zarr"), pytest.raises(BusyError, match="another process"):
        copy_cache(cache, tmp_path / "d.zarr")


def test_a_cache_that_appears_meanwhile_is_not_replaced(
    cache: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "d.zarr"

    def late(path: Path) -> Any:
        monkeypatch.undo()
        copy_cache(other, target)
        return locked(path)

    monkeypatch.setattr(module, "locked", late)
    with pytest.raises(OutputExistsError, match="another cache"):
        copy_cache(cache, target)
    assert files_of(target) == files_of(other)


def test_files_that_appear_in_a_url_meanwhile_are_noticed(
    cache: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._copy_file

    def beside(*values: Any) -> None:
        put(memory, "train/cls/c/9/0/0", b"of another copy")
        real(*values)

    monkeypatch.setattr(module, "_copy_file", beside)
    with pytest.raises(CacheError, match="has other files than were copied"):
        copy_cache(cache, memory)
    assert "manifest.json" not in there(memory)


def test_a_file_under_two_names_is_not_changed_under_the_other(own: Path, tmp_path: Path) -> None:
    """DVC makes files of a cache hard links into its own store."""
    incoming = tmp_path / ".d.zarr.incoming"
    incoming.mkdir()
    (tmp_path / "store").write_bytes(b"precious")
    os.link(tmp_path / "store", incoming / "zarr.json")
    copy_cache(own, tmp_path / "d.zarr")
    assert (tmp_path / "store").read_bytes() == b"precious"


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_what_it_did(cache: Path, s3: LocalS3) -> None:
    found = run(cache, s3.url("said.zarr"))
    assert found.exit_code == 0, found.output
    files = len(files_of(cache)) - 1
    text = (
        rf"said\.zarr: {files} files copied, 0 were there already; [\d.]+ kB copied and read back"
    )
    assert re.search(rf"{text} in [\d.]+ s, [\d.]+ [kM]?B/s$", found.stdout)
    assert "bytes: " in found.stderr
    again = run(cache, s3.url("said.zarr"), "--json")
    content = json.loads(again.stdout)
    assert content["existed"] is True
    assert content["content_digest"] == read_manifest(cache).content_digest
    assert "nothing to do" in again.stderr


class Forbids(BaseHTTPRequestHandler):
    """A storage that lets nobody in."""

    def answer(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def forbidding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbids)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with new_client(monkeypatch, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}"):
        yield
    server.shutdown()
    server.server_close()


class new_client:  # noqa: N801 - used like a function
    """Other AWS_* variables, and s3fs as a new process finds it."""

    def __init__(self, patch: pytest.MonkeyPatch, **variables: str) -> None:
        for name, value in variables.items():
            if value:
                patch.setenv(name, value)
            else:
                patch.delenv(name, raising=False)

    def __enter__(self) -> None:
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    def __exit__(self, *_: object) -> None:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def one_message(found: Result, *texts: str) -> None:
    assert found.exit_code == 1, found.output
    assert found.stderr.count("Error: ") == 1
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
    for text in texts:
        assert text in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("s3://team-bucket/none.zarr", "d.zarr", "s3://team-bucket/none.zarr: no such cache"),
        ("s3://gone/c.zarr", "d.zarr", "s3://gone/c.zarr: The specified bucket does not exist. Ch"),
        (
            "CACHE",
            "s3://gone/d.zarr",
            "s3://gone/d.zarr: The specified bucket does not exist. Chec",
        ),
        ("CACHE", "nowhere://d.zarr", "nowhere://d.zarr: cannot be opened: Protocol not known"),
        ("CACHE", "s3://", "s3://: names no folder; expected an address such as s3://team/c"),
        ("none.zarr", "d.zarr", "none.zarr: no such cache"),
        ("CACHE", "CACHE/x", "choose another target"),
    ],
)
def test_mistakes(cache: Path, s3: LocalS3, source: str, target: str, text: str) -> None:
    found = run(source.replace("CACHE", str(cache)), target.replace("CACHE", str(cache)))
    one_message(found, text)
    assert not Path("d.zarr").exists()


def test_a_missing_library_is_named(cache: Path) -> None:
    if "gcs" in fsspec.available_protocols() and _installed("gcsfs"):
        pytest.skip("gcsfs is installed")
    one_message(run(cache, "gs://team/c.zarr"), "gs://team/c.zarr: cannot be opened", "gcsfs")


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_no_credentials(cache: Path, s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_client(monkeypatch, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""):
        texts = ("s3://team-bucket/d.zarr: access is refused (Unable to locate credentials)",
                 "AWS_PROFILE", "run the same command again")  # fmt: skip
        one_message(run(cache, "s3://team-bucket/d.zarr"), *texts)
        one_message(run("s3://team-bucket/d.zarr", "d.zarr"), *texts)


@pytest.mark.usefixtures("s3", "forbidding")
def test_forbidden(cache: Path) -> None:
    for arguments in ((cache, "s3://team/d.zarr"), ("s3://team/d.zarr", "d.zarr")):
        one_message(run(*arguments), "s3://team/d.zarr: access is refused (Forbidden). Check your")


def test_a_wrong_endpoint(cache: Path, s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AWS_MAX_ATTEMPTS botocore tries five times: 7 to 10 s."""
    with new_client(monkeypatch, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1"):
        texts = ("d.zarr: the storage did not answer as expected (Could not connect to the end",
                 "http://127.0.0.1:9", "Check the address (S3: AWS_ENDPOINT_URL)")  # fmt: skip
        one_message(run(cache, "s3://team-bucket/d.zarr"), *texts)


def test_ctrl_c(cache: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", interrupted)
    one_message(run(cache, memory), "interrupted; nothing unfinished was published")
    assert "manifest.json" not in there(memory)
