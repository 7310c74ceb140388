"""pytest tests/pipeline/caching/test_reuse.py - rows computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.caching.build import Built, build_cache
from pipeline.caching.merge import merge_parts
from pipeline.data import Prepared, load_prepared
from pipeline.data.prepare import prepare
from pipeline.errors import CacheMismatchError
from pipeline.params import CacheParams, DataParams
from pipeline.store.check import check_cache
from pipeline.store.plan import Share
from pipeline.store.reader import TeacherCache
from pipeline.tasks import BUILT_IN
from tests.support.synthetic import files_of
from tests.support.tiny import CACHE, World

HEADER = "index\tsentence1\tsentence2\tlabel"
PARAMS = replace(CACHE, shard_rows=20)


def lines_of(world: World, name: str) -> list[str]:
    """Rows of a TSV without header and index."""
    lines = (world.source / f"{name}.tsv").read_text("utf-8").splitlines()[1:]
    return [line.split("\t", 1)[1] for line in lines]


def prepared(folder: Path, train: list[str], validation: list[str]) -> Prepared:
    """Prepare rows as `pkd-data prepare` does."""
    folder.mkdir()
    for name, rows in (("train", train), ("dev", validation)):
        numbered = [f"{index}\t{row}" for index, row in enumerate(rows)]
        (folder / f"{name}.tsv").write_text("\n".join([HEADER, *numbered]) + "\n", "utf-8")
    prepare(BUILT_IN["rte"], DataParams(source=str(folder)), folder / "raw")
    return load_prepared(folder / "raw", "rte")


def build(
    world: World, data: Prepared, out: Path, params: CacheParams = PARAMS, **more: Any
) -> Built:
    return build_cache(
        prepared=data, teacher_name=str(world.teacher), out=out, params=params, **more
    )


@pytest.fixture
def repeats(world: World, tmp_path: Path) -> Prepared:
    """Train rows that repeat a row of their shard, of an earlier shard, and of validation."""
    train, validation = lines_of(world, "train")[:60], lines_of(world, "dev")
    train[3] = train[1]  # in one shard
    train[25] = train[2]  # a later shard
    train[45] = train[2]  # and a still later one
    train[59] = train[58] = validation[5]  # another split
    return prepared(tmp_path / "repeats", train, validation)


def test_a_repeated_input_is_computed_once(world: World, repeats: Prepared, tmp_path: Path) -> None:
    built = build(world, repeats, tmp_path / "c.zarr")
    assert built.computed_rows == len(set(lines_of(world, "dev"))) + 60 - 5
    assert built.copied_rows == 5
    assert check_cache(tmp_path / "c.zarr") == []
    cache = TeacherCache.open(tmp_path / "c.zarr")
    train, validation = cache.logits("train"), cache.logits("validation")
    cls, cls_v = cache.cls("train", (1, 4)), cache.cls("validation", (1, 4))
    for one, other in ((3, 1), (25, 2), (45, 2)):
        np.testing.assert_array_equal(train[one], train[other])
        np.testing.assert_array_equal(cls[one], cls[other])
    for row in (58, 59):
        np.testing.assert_array_equal(train[row], validation[5])
        np.testing.assert_array_equal(cls[row], cls_v[5])
    digests = cache.examples("train")["row_digest"].to_pylist()
    rows_of: dict[bytes, np.ndarray] = {}
    for digest, row in zip(digests, train, strict=True):  # the same input, the same outputs
        np.testing.assert_array_equal(rows_of.setdefault(digest, row), row)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("count", [2, 5])
def test_repeats_in_other_parts_have_the_same_bytes(
    world: World, repeats: Prepared, tmp_path: Path, dtype: str, count: int
) -> None:
    """A part that lacks the first occurrence computes that row in the same batch again."""
    params = replace(PARAMS, dtype=dtype, batch_tokens=64)
    build(world, repeats, tmp_path / "one.zarr", params)
    parts = []
    for index in range(count):
        parts.append(tmp_path / f"part-{index}")
        build(world, repeats, parts[-1], params, share=Share(index, count))
    merge_parts(tmp_path / "merged.zarr", parts)
    assert files_of(tmp_path / "merged.zarr") == files_of(tmp_path / "one.zarr")


def test_a_stopped_build_with_repeats_ends_with_the_same_bytes(
    world: World, repeats: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first occurrence is then read from its finished shard."""
    from pipeline.store.writer import CacheWriter

    build(world, repeats, tmp_path / "whole.zarr")
    original, written = CacheWriter.write_shard, 0

    def stop_after_three(*arguments: Any, **named: Any) -> None:
        nonlocal written
        if written == 3:
            raise KeyboardInterrupt
        written += 1
        original(*arguments, **named)

    monkeypatch.setattr(CacheWriter, "write_shard", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        build(world, repeats, tmp_path / "cut.zarr")
    monkeypatch.undo()
    assert build(world, repeats, tmp_path / "cut.zarr").resumed_shards == 3
    assert files_of(tmp_path / "cut.zarr") == files_of(tmp_path / "whole.zarr")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_only_new_rows_run_the_teacher(world: World, tmp_path: Path, dtype: str) -> None:
    params = replace(PARAMS, dtype=dtype)
    train, validation = lines_of(world, "train"), lines_of(world, "dev")
    old = prepared(tmp_path / "old", train[:100], validation)
    build(world, old, tmp_path / "old.zarr", params)
    changed = ["a quite\tother pair\tentailment" if row == 7 else train[row] for row in range(100)]
    new = prepared(tmp_path / "new", [*train[120:130], *reversed(changed)], validation)
    built = build(world, new, tmp_path / "new.zarr", params, reuse=tmp_path / "old.zarr")
    assert built.computed_rows == 11
    assert built.reused_rows == 99 + len(validation)
    assert built.copied_rows == 0
    assert built.train_pass_seconds is None  # of rows that were not computed
    assert check_cache(tmp_path / "new.zarr") == []
    assert build(world, new, tmp_path / "full.zarr", params).train_pass_seconds
    reused = TeacherCache.open(tmp_path / "new.zarr")
    full = TeacherCache.open(tmp_path / "full.zarr")
    assert reused.manifest.cache_id == full.manifest.cache_id
    assert reused.manifest.reused["rows"] == built.reused_rows
    assert full.manifest.reused == {"rows": 0, "content_digest": None}
    of_old = TeacherCache.open(tmp_path / "old.zarr").manifest.content_digest
    assert reused.manifest.reused["content_digest"] == of_old
    tolerance = {"float32": 2e-6, "float16": 2e-3, "int8": 3e-2}[dtype]
    for split in ("train", "validation"):
        np.testing.assert_allclose(reused.logits(split), full.logits(split), atol=2e-6)
        one, other = reused.cls(split, (2, 3)), full.cls(split, (2, 3))
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


def test_fewer_layers_and_a_narrower_type_are_made_of_a_wider_cache(
    world: World, tmp_path: Path
) -> None:
    """float32 rows are rounded as fresh ones would be."""
    params = replace(PARAMS, dtype="int8", layers="2,4", shard_rows=40)
    built = build(world, world.prepared, tmp_path / "c.zarr", params, reuse=world.cache)
    assert built.computed_rows == 0
    build(world, world.prepared, tmp_path / "full.zarr", params)
    made, full = TeacherCache.open(tmp_path / "c.zarr"), TeacherCache.open(tmp_path / "full.zarr")
    assert made.manifest.layers == (2, 4)
    np.testing.assert_array_equal(made.cls("train", (2, 4)), full.cls("train", (2, 4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float32"}, "stored as float16, which float32 cannot be made of .* --dtype fl"),
        ({"dtype": "int8"}, "stored as float16, which int8 cannot be made of"),
        ({"compute": "bfloat16"}, "its compute is float32, this build has bfloat16"),
        ({"layers": "1,2,4"}, "it lacks layers 1,4, and a row is reused whole"),
    ],
)
def test_rows_of_another_kind_are_refused(
    world: World, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    params = replace(PARAMS, dtype="float16")
    build(world, world.prepared, tmp_path / "old.zarr", replace(params, layers="2,3"))
    with pytest.raises(CacheMismatchError, match=message):
        build(
            world, world.prepared, tmp_path / "new.zarr",
            replace(params, **({"layers": "2"} | changes)), reuse=tmp_path / "old.zarr",
        )  # fmt: skip
    assert not (tmp_path / "new.zarr").exists()


def test_rows_of_another_teacher_are_refused(world: World, tmp_path: Path) -> None:
    from tests.pipeline.caching.test_build import random_teacher

    teacher = random_teacher(tmp_path, "bert", layers=4)
    with pytest.raises(CacheMismatchError, match="--reuse .*: its teacher is .* Leave --reuse out"):
        build_cache(
            prepared=world.prepared, teacher_name=str(teacher), out=tmp_path / "c.zarr",
            params=replace(CACHE, max_length=24), reuse=world.cache,
        )  # fmt: skip


def test_an_unfinished_build_that_reused_another_cache_is_set_aside(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.store.writer import CacheWriter

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CacheWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        build(world, world.prepared, tmp_path / "c.zarr", reuse=world.cache)
    monkeypatch.undo()
    built = build(world, world.prepared, tmp_path / "c.zarr")
    assert built.set_aside
    assert built.reused_rows == 0
