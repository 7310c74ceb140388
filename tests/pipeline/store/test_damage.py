"""pytest tests/pipeline/store/test_damage.py - any damage is found, and never read as numbers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import CacheCorruptError, CacheError, CacheMismatchError, PipelineError
from pipeline.files import canonical_json
from pipeline.store.check import check_cache
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.place import place_of
from pipeline.store.reader import TeacherCache
from tests.support.synthetic import LAYERS, files_of, values, write

TRIALS = 400 if os.environ.get("PKD_SOAK") else 60


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write(tmp_path / "c.zarr")
    return tmp_path / "c.zarr"


def findings(cache: Path) -> list[str]:
    """What verify finds, by file; the manifest's own damage included."""
    try:
        return [each.file for each in check_cache(cache)]
    except CacheError as error:
        return [str(error)]


def test_one_flipped_bit_anywhere_is_found(
    cache: Path, record_property: Callable[[str, object], None]
) -> None:
    draw = np.random.default_rng(0)
    names = sorted(files_of(cache))
    for trial in range(TRIALS):
        path = cache / names[trial % len(names)]
        content = bytearray(path.read_bytes())
        place, bit = draw.integers(len(content)), draw.integers(8)
        content[place] ^= 1 << bit
        whole = path.read_bytes()
        path.write_bytes(content)
        found = findings(cache)
        assert found, f"{path} byte {place} bit {bit}"
        assert any(path.relative_to(cache).as_posix() in each for each in found), found
        path.write_bytes(whole)
    record_property("flipped bits, all found", TRIALS)
    assert findings(cache) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "longer"])
def test_a_file_of_another_size_is_found(cache: Path, damage: str) -> None:
    for name in sorted(files_of(cache)):
        path = cache / name
        whole = path.read_bytes()
        changed = {"truncated": whole[:-1], "empty": b"", "longer": whole + b"\0"}
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(changed[damage])
        assert any(name in each for each in findings(cache)), name
        path.write_bytes(whole)


def test_an_added_file_and_a_link_are_found(cache: Path, tmp_path: Path) -> None:
    (cache / "train" / "cls" / "c" / "5").mkdir()
    (cache / "train" / "cls" / "c" / "5" / "0").write_bytes(b"")
    assert findings(cache) == ["train/cls/c/5/0"]
    (cache / "train" / "cls" / "c" / "5" / "0").unlink()
    shard = cache / "train" / "logits" / "c" / "0" / "0"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    assert findings(cache) == ["train/logits/c/0/0"]


@pytest.mark.parametrize("array", ["cls", "logits"])
def test_reading_over_damage_raises(cache: Path, array: str) -> None:
    """Without `verify`: a flipped byte, a shard of NaN fill, a valid but foreign shard."""
    shard = cache / "train" / array / "c" / "1" / ("0/0" if array == "cls" else "0")
    foreign = cache / "train" / array / "c" / "2" / ("0/0" if array == "cls" else "0")
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1

    def read() -> Any:
        cache_ = TeacherCache.open(cache)
        return cache_.logits("train") if array == "logits" else cache_.cls("train", LAYERS)

    for content in (bytes(flipped), foreign.read_bytes(), whole[:-5]):
        shard.write_bytes(content)
        with pytest.raises(CacheCorruptError, match="pkd-cache verify"):
            read()
    shard.unlink()
    with pytest.raises(CacheCorruptError, match="pkd-cache verify"):
        read()
    shard.write_bytes(whole)
    read()


def test_damage_of_a_layer_that_is_not_read_does_not_matter(cache: Path) -> None:
    """`fit` checks the layers it loads, and no others."""
    manifest = read_manifest(cache)
    path = cache / "train" / "cls" / "c" / "0" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[10] ^= 1  # in the first layer's chunk
    path.write_bytes(content)
    cache_ = TeacherCache(place_of(cache), manifest)
    np.testing.assert_array_equal(cache_.cls("train", [7])[:, 0], values()[1][:, 2].astype("f2"))
    with pytest.raises(CacheCorruptError):
        cache_.cls("train", [2])


def test_tokens_of_another_file_are_not_read(cache: Path) -> None:
    path = cache / "train" / "examples.arrow"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheCorruptError, match=r"examples\.arrow: not the file"):
        TeacherCache.open(cache).examples("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a teacher cache"),
        ({"format_version": 3}, "cache format 3, this pkd reads 1; rebuild"),
        ({"max_length": 9}, "content_digest does not match"),
        ({"surprise": 1}, "fields missing or unknown: surprise"),
        ({"splits": []}, "malformed manifest"),
        ({"splits": {"train": {"rows": 3}}}, "malformed manifest"),
        ({"layers": None}, "malformed manifest"),
    ],
)
def test_a_manifest_that_is_not_ours(cache: Path, change: dict[str, Any], message: str) -> None:
    path = cache / "manifest.json"
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | change))
    with pytest.raises(CacheError, match=message):
        TeacherCache.open(cache)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null"])
def test_a_manifest_that_is_not_json(cache: Path, content: bytes) -> None:
    (cache / "manifest.json").write_bytes(content)
    with pytest.raises(PipelineError, match=r"manifest\.json"):
        TeacherCache.open(cache)


def test_the_same_values_in_other_bytes_are_not_canonical(cache: Path) -> None:
    path = cache / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), sort_keys=True, indent=1))
    with pytest.raises(CacheCorruptError, match="not in canonical form"):
        TeacherCache.open(cache)


def test_manifest_bytes_and_values_are_inverses(cache: Path) -> None:
    raw = (cache / "manifest.json").read_bytes()
    assert Manifest.from_bytes(raw, "x").to_bytes() == raw


def test_metadata_with_a_strange_codec_is_refused_before_decoding(cache: Path) -> None:
    """Even when the manifest vouches for the file."""
    from pipeline.store.arrays import open_array

    path = cache / "train" / "logits" / "zarr.json"
    content = json.loads(path.read_bytes())
    content["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    path.write_text(json.dumps(content))
    manifest = read_manifest(cache)
    with pytest.raises(CacheCorruptError, match=r"logits/zarr\.json: codecs is \[.* expected"):
        open_array(place_of(cache), "train", manifest.specs("train")["logits"], manifest.sizes)


def test_no_cache_and_half_a_cache(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="no such cache; build it with `pkd-cache build"):
        TeacherCache.open(tmp_path / "none.zarr")
    (cache / "manifest.json").unlink()
    with pytest.raises(CacheError, match=r"not a finished cache \(it has no manifest"):
        TeacherCache.open(cache)
    shutil.rmtree(cache)
    cache.write_text("a file")
    with pytest.raises(CacheError, match="not a finished cache"):
        TeacherCache.open(cache)


def test_a_layer_or_split_that_is_not_there(cache: Path) -> None:
    opened = TeacherCache.open(cache)
    with pytest.raises(CacheMismatchError, match=r"layer 5 is not cached; it has 2, 3, 7 of the"):
        opened.cls("train", [2, 5])
    with pytest.raises(CacheMismatchError, match="no split `test`; it has train"):
        opened.logits("test")


def test_a_cache_of_links_says_how_dvc_makes_files(cache: Path, tmp_path: Path) -> None:
    (cache / "manifest.json").rename(tmp_path / "m")
    (cache / "manifest.json").symlink_to(tmp_path / "m")
    with pytest.raises(CacheError, match=r"its manifest.json is a link.*dvc checkout --relink"):
        TeacherCache.open(cache)
