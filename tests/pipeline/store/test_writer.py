"""pytest tests/pipeline/store/test_writer.py

Shapes: rows, layers, hidden; outputs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zarr

from pipeline.errors import BusyError, CacheCorruptError, CacheError
from pipeline.store.check import check_cache
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import Stored, encode_cls
from pipeline.store.writer import CacheWriter
from tests.support.synthetic import (
    HIDDEN,
    LAYERS,
    ROWS,
    SHARD,
    described,
    examples,
    files_of,
    plan,
    values,
    write,
)


def first_stored(cls: np.ndarray) -> Stored:
    return encode_cls(cls[:SHARD], "float16", LAYERS)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_what_is_read(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "c.zarr", dtype=dtype)
    logits, cls = values()
    cache = TeacherCache.open(tmp_path / "c.zarr")
    np.testing.assert_array_equal(cache.logits("train"), logits)
    np.testing.assert_array_equal(cache.cls("train", [7, 2]), cls[:, [2, 0]].astype(dtype))
    assert cache.examples("train").equals(examples())
    assert check_cache(tmp_path / "c.zarr") == []


def test_a_plain_reader_sees_the_same(tmp_path: Path) -> None:
    """zarr and pyarrow alone, without our code."""
    write(tmp_path / "c.zarr")
    group = zarr.open_group(str(tmp_path / "c.zarr"), mode="r")
    cls: Any = group["train/cls"]
    assert cls.shape == (ROWS, len(LAYERS), HIDDEN)
    assert cls.shards == (SHARD, len(LAYERS), HIDDEN)
    assert cls.chunks == (SHARD, 1, HIDDEN)
    assert np.isnan(cls.fill_value)
    np.testing.assert_array_equal(cls[:], values()[1].astype("f2"))
    with pa.memory_map(str(tmp_path / "c.zarr" / "train" / "examples.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().num_rows == ROWS


def test_the_files_are_one_per_shard(tmp_path: Path) -> None:
    write(tmp_path / "c.zarr")
    shards = -(-ROWS // SHARD)
    expected = {"manifest.json", "zarr.json", "train/zarr.json", "train/examples.arrow"}
    expected |= {f"train/{array}/zarr.json" for array in ("cls", "logits")}
    expected |= {f"train/cls/c/{shard}/0/0" for shard in range(shards)}
    expected |= {f"train/logits/c/{shard}/0" for shard in range(shards)}
    assert set(files_of(tmp_path / "c.zarr")) == expected


def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one.zarr")
    write(tmp_path / "two.zarr")
    assert files_of(tmp_path / "one.zarr") == files_of(tmp_path / "two.zarr")


@pytest.mark.parametrize("finished", [0, 1, 3, 4])
def test_a_stopped_build_goes_on_from_its_last_finished_shard(
    tmp_path: Path, finished: int
) -> None:
    write(tmp_path / "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut.zarr", stop_after=finished)
    assert not (tmp_path / "cut.zarr").exists()
    assert write(tmp_path / "cut.zarr") == list(range(finished, 5))
    assert files_of(tmp_path / "cut.zarr") == files_of(tmp_path / "whole.zarr")
    assert sorted(path.name for path in tmp_path.glob(".*")) == [
        ".cut.zarr.lock",
        ".whole.zarr.lock",
    ]


def test_a_build_killed_just_before_or_after_its_rename_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.files import publish
    from pipeline.store import writer as module

    write(tmp_path / "whole.zarr")

    def killed_before(*_: Path) -> None:
        raise KeyboardInterrupt

    def killed_after(partial: Path, target: Path) -> None:
        publish(partial, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", killed_before)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "before.zarr")
    monkeypatch.setattr(module, "publish", killed_after)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "after.zarr")
    monkeypatch.undo()
    assert write(tmp_path / "before.zarr") == []
    whole = files_of(tmp_path / "whole.zarr")
    assert files_of(tmp_path / "before.zarr") == files_of(tmp_path / "after.zarr") == whole


def test_a_finished_shard_that_was_damaged_since_is_computed_again(tmp_path: Path) -> None:
    write(tmp_path / "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "c.zarr", stop_after=3)
    shard = tmp_path / ".c.zarr.partial" / "train" / "cls" / "c" / "1" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert write(tmp_path / "c.zarr") == [1, 3, 4]
    assert files_of(tmp_path / "c.zarr") == files_of(tmp_path / "whole.zarr")


def test_a_build_of_another_plan_is_set_aside(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "c.zarr", stop_after=2)
    with CacheWriter(tmp_path / "c.zarr", plan(identity={"teacher": "other"})) as writer:
        assert writer.resumed_shards == 0
        assert writer.set_aside is not None
        assert (writer.set_aside / "train" / "cls" / "c" / "1" / "0" / "0").exists()


def test_a_leftover_of_a_kill_does_not_reach_the_cache(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "c.zarr", stop_after=2)
    (tmp_path / ".c.zarr.partial" / "train" / "cls" / "c" / "9.tmp").write_bytes(b"half")
    write(tmp_path / "c.zarr")
    assert check_cache(tmp_path / "c.zarr") == []


def test_a_cache_lacking_a_shard_is_not_published(tmp_path: Path) -> None:
    logits, cls = values()
    with CacheWriter(tmp_path / "c.zarr", plan()) as writer:
        writer.add_split("train", examples())
        writer.write_shard("train", 0, logits[:SHARD], first_stored(cls))
        assert np.isnan(writer.files.logits("train")[SHARD:]).all()
        with pytest.raises(CacheError, match=r"train lacks shards \[1, 2, 3, 4\]"):
            writer.finish(described())
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (70000.0, r"Layer 3 has values up to 7e\+04, beyond float16 .* --dtype float32"),
        (float("nan"), "Layer 3: the teacher gave NaN or infinity"),
    ],
)
def test_values_that_cannot_be_stored_name_the_layer(
    tmp_path: Path, value: float, message: str
) -> None:
    logits, cls = values()
    cls[4, 1, 2] = value
    with CacheWriter(tmp_path / "c.zarr", plan()) as writer:
        writer.add_split("train", examples())
        with pytest.raises(CacheError, match=message):
            writer.write_shard("train", 0, logits[:SHARD], first_stored(cls))


def test_a_second_builder_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.pipeline.store.test_writer import *\n"
        "from pipeline.errors import BusyError\n"
        "try:\n    write(Path(sys.argv[1]))\nexcept BusyError as error:\n    print(error)"
    )
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", code, str(tmp_path / "c.zarr")]
    with CacheWriter(tmp_path / "c.zarr", plan()):
        with pytest.raises(BusyError):
            write(tmp_path / "c.zarr")
        found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert "another process is making it" in found.stdout
    assert write(tmp_path / "c.zarr") == [0, 1, 2, 3, 4]


def test_nothing_of_the_machine_is_in_a_cache(tmp_path: Path) -> None:
    write(tmp_path / "c.zarr")
    everything = b"".join(files_of(tmp_path / "c.zarr").values())
    assert str(tmp_path).encode() not in everything
    assert b"time" not in (tmp_path / "c.zarr" / "manifest.json").read_bytes()
    assert read_manifest(tmp_path / "c.zarr").splits["train"].labelled_rows == 29


def test_a_finished_build_that_was_not_published_is_set_aside_by_another_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before its rename: it has a manifest already, and is not what a swap replaced."""
    from pipeline.store import writer as module

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "c.zarr")
    monkeypatch.undo()
    write(tmp_path / "c.zarr", identity={"teacher": "other"})
    assert (tmp_path / ".c.zarr.set-aside-0" / "manifest.json").exists()
    assert check_cache(tmp_path / "c.zarr") == []


def test_what_no_reader_would_take_is_not_published(tmp_path: Path) -> None:
    given = described()
    given["teacher"]["name"] = "a\nb"
    logits, cls = values()
    with CacheWriter(tmp_path / "c.zarr", plan()) as writer:
        writer.add_split("train", examples())
        for shard in writer.unfinished("train"):
            rows = writer.rows_of("train", shard)
            writer.write_shard(
                "train", shard, logits[rows], encode_cls(cls[rows], "float16", LAYERS)
            )
        with pytest.raises(CacheCorruptError, match="teacher is"):
            writer.finish(given)
    assert not (tmp_path / "c.zarr").exists()
