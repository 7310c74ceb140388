"""pytest tests/pipeline/store/test_copy.py - copies between folders, memory:// and S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from pipeline.errors import BusyError, CacheCorruptError, CacheError, OutputExistsError
from pipeline.locks import locked
from pipeline.store import copy as module
from pipeline.store.check import check_cache
from pipeline.store.copy import copy_cache
from pipeline.store.reader import TeacherCache
from stages.cache import cli
from tests.support.s3 import LocalS3, local_s3
from tests.support.synthetic import files_of, write


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write(tmp_path / "c.zarr", dtype="int8")
    return tmp_path / "c.zarr"


@pytest.fixture(scope="module")
def s3() -> Iterator[LocalS3]:
    with pytest.MonkeyPatch.context() as patch, local_s3(patch) as found:
        yield found


@pytest.fixture(params=["folder", "memory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place where nothing is yet."""
    if request.param == "folder":
        return str(tmp_path / "there" / "d.zarr")
    if request.param == "memory":
        return f"memory://{tmp_path.name}/d.zarr"
    server: LocalS3 = request.getfixturevalue("s3")
    return server.url(f"{tmp_path.name}/d.zarr")


def remove(target: str, name: str) -> None:
    fs, root = fsspec.core.url_to_fs(target)
    fs.rm_file(f"{root}/{name}")


def test_a_copy_there_and_back_has_the_same_bytes(cache: Path, target: str, tmp_path: Path) -> None:
    done = copy_cache(cache, target)
    assert (done.copied_files, done.kept_files, done.existed) == (
        len(files_of(cache)) - 1,
        0,
        False,
    )
    assert check_cache(target) == []
    assert copy_cache(cache, target).existed
    copy_cache(target, tmp_path / "back.zarr")
    assert files_of(tmp_path / "back.zarr") == files_of(cache)


def test_a_stopped_copy_is_no_cache_and_goes_on(
    cache: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = module._copy_file, 0

    def stop_after_five(*arguments: Any) -> None:
        nonlocal count
        if count == 5:
            raise KeyboardInterrupt
        count += 1
        original(*arguments)

    monkeypatch.setattr(module, "_copy_file", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        copy_cache(cache, target)
    monkeypatch.undo()
    with pytest.raises(CacheError, match="no such cache|not a finished cache"):
        TeacherCache.open(target)
    done = copy_cache(cache, target)
    assert done.kept_files == 5
    assert check_cache(target) == []


def test_a_damaged_source_is_not_copied(cache: Path, target: str) -> None:
    shard = cache / "train" / "cls" / "c" / "2" / "0" / "0"
    whole = shard.read_bytes()
    for content in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        shard.write_bytes(content)
        with pytest.raises(
            CacheCorruptError, match=r"c/2/0/0: missing or damaged.*pkd-cache verify"
        ):
            copy_cache(cache, target)
        with pytest.raises(CacheError, match="no such cache|not a finished cache"):
            TeacherCache.open(target)
    shard.write_bytes(whole)
    copy_cache(cache, target)
    assert check_cache(target) == []


def test_another_cache_is_replaced_only_when_asked(
    cache: Path, target: str, tmp_path: Path
) -> None:
    write(tmp_path / "other.zarr", rows=60)
    copy_cache(tmp_path / "other.zarr", target)
    with pytest.raises(OutputExistsError, match="holds another cache .* --overwrite"):
        copy_cache(cache, target)
    copy_cache(cache, target, overwrite=True)
    assert check_cache(target) == []  # no file of the other one is left
    assert TeacherCache.open(target).manifest == TeacherCache.open(cache).manifest


def test_a_stopped_replacement_never_looks_whole_and_goes_on(
    cache: Path, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "other.zarr", rows=60)
    copy_cache(tmp_path / "other.zarr", target)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_copy_file", stop)
    with pytest.raises(KeyboardInterrupt):
        copy_cache(cache, target, overwrite=True)
    monkeypatch.undo()
    if "://" in target:
        with pytest.raises(CacheError, match="not a finished cache"):
            TeacherCache.open(target)
    else:
        assert check_cache(target) == []  # still the other one, whole
    copy_cache(cache, target, overwrite=True)
    assert check_cache(target) == []


def test_a_damaged_copy_is_mended(cache: Path, target: str) -> None:
    copy_cache(cache, target)
    remove(target, "train/logits/c/0/0")
    with pytest.raises(OutputExistsError, match="holds this cache, damaged; pass --overwrite"):
        copy_cache(cache, target)
    copy_cache(cache, target, overwrite=True)
    assert check_cache(target) == []


def test_what_is_no_cache_is_never_replaced(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match=r"no cache \(it has thesis.txt\)"):
        copy_cache(cache, mine, overwrite=True)
    (tmp_path / "file").write_text("dear")
    with pytest.raises(OutputExistsError, match=r"no cache \(it has a file\)"):
        copy_cache(cache, tmp_path / "file", overwrite=True)


def test_two_copies_to_one_folder(cache: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "d.zarr"), pytest.raises(BusyError, match="another process"):
        copy_cache(cache, tmp_path / "d.zarr")


def test_the_command_says_what_it_did(cache: Path, s3: LocalS3) -> None:
    found = CliRunner().invoke(cli, ["copy", str(cache), s3.url("said.zarr")])
    assert found.exit_code == 0, found.output
    assert "files copied, 0 were there already" in found.stdout
    again = CliRunner().invoke(cli, ["copy", str(cache), s3.url("said.zarr"), "--json"])
    assert json.loads(again.stdout)["existed"] is True
    assert "nothing to do" in again.stderr


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("s3://team-bucket/none.zarr", "d.zarr", "no such cache"),
        ("CACHE", "s3://no-such-bucket/d.zarr", "s3://no-such-bucket/d.zarr: cannot be written"),
        ("CACHE", "nowhere://d.zarr", "nowhere://d.zarr: cannot be opened"),
        ("none.zarr", "d.zarr", "none.zarr: no such cache"),
    ],
)
def test_mistakes_are_one_message(
    cache: Path, s3: LocalS3, source: str, target: str, text: str
) -> None:
    found = CliRunner().invoke(cli, ["copy", source.replace("CACHE", str(cache)), target])
    assert found.exit_code == 1, found.output
    assert text in found.stderr
    assert "Traceback" not in found.output
    assert not Path("d.zarr").exists()
