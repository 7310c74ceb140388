"""pytest tests/pipeline/caching/test_workers.py - one cache by several processes, or in parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.caching.build import build_cache
from pipeline.caching.merge import merge_parts
from pipeline.errors import (
    CacheError,
    CacheMismatchError,
    OutputExistsError,
    TeacherRefusedError,
)
from pipeline.store.check import check_cache
from pipeline.store.examples import parse_examples, write_examples
from pipeline.store.plan import Share
from tests.pipeline.caching.test_build import permuted_teacher, random_teacher
from tests.support.synthetic import files_of
from tests.support.tiny import CACHE, World

ROOT = Path(__file__).parents[3]


def build_parts(world: World, folder: Path, count: int, **changes: object) -> list[Path]:
    """Build every part, as separate machines would."""
    parts = []
    for index in range(count):
        out = folder / f"rte.zarr.part-{index}-of-{count}"
        build_cache(
            prepared=world.prepared, teacher_name=str(world.teacher), out=out,
            params=replace(CACHE, **changes), share=Share(index, count),  # type: ignore[arg-type]
        )  # fmt: skip
        parts.append(out)
    return parts


def launched(world: World, *, out: Path, processes: int) -> str:
    """Run `pkd-cache build` under torchrun (gloo); returns its output."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", "-m", "stages.cache", "build", "--task", "rte",
        "--teacher", str(world.teacher), "--data", str(world.raw), "--out", str(out),
        "--shard-rows", "40", "--batch-tokens", "256", "--dtype", "float32", "--device", "cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert found.returncode == 0, found.stderr
    assert f"in this one of {processes} processes" in found.stdout
    return found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4] if os.environ.get("PKD_SOAK") else [2])
def test_several_processes_write_the_bytes_of_one(
    world: World, tmp_path: Path, processes: int
) -> None:
    stdout = launched(world, out=tmp_path / "rte.zarr", processes=processes)
    assert stdout.count("teacher on validation") == 1  # one process speaks
    assert files_of(tmp_path / "rte.zarr") == files_of(world.cache)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_parts_make_the_bytes_of_one_build(world: World, tmp_path: Path, count: int) -> None:
    parts = build_parts(world, tmp_path, count)
    assert not any((part / "manifest.json").exists() for part in parts)
    manifest, existed = merge_parts(tmp_path / "rte.zarr", parts[::-1])
    assert not existed
    assert manifest.teacher["scores"]["validation"]["accuracy"] > 0.6
    assert files_of(tmp_path / "rte.zarr") == files_of(world.cache)
    assert merge_parts(tmp_path / "rte.zarr", parts)[1]


def test_each_part_computes_its_share_once_and_is_not_built_twice(
    world: World, tmp_path: Path
) -> None:
    arguments = {
        "prepared": world.prepared, "teacher_name": str(world.teacher), "params": CACHE,
        "out": tmp_path / "part",
    }  # fmt: skip
    built = build_cache(**arguments, share=Share(1, 3))  # type: ignore[arg-type]
    # shards: validation 0; train 0, 1, 2, 3; test 0 -> numbers 1 and 4 are train 0 and train 3
    assert built.computed_rows == 40 + 30
    assert build_cache(**arguments, share=Share(1, 3)).existed  # type: ignore[arg-type]
    with pytest.raises(OutputExistsError, match="index: 1 there, 2 now"):
        build_cache(**arguments, share=Share(2, 3))  # type: ignore[arg-type]


def test_parts_that_do_not_make_a_whole_are_refused(world: World, tmp_path: Path) -> None:
    parts = build_parts(world, tmp_path, 3)
    out = tmp_path / "rte.zarr"
    with pytest.raises(CacheError, match=r"1 of 3 parts are missing: --shard 1/3\."):
        merge_parts(out, [parts[0], parts[2]])
    with pytest.raises(CacheError, match="Part 0 of 3 is there twice"):
        merge_parts(out, [parts[0], parts[0], parts[1]])
    with pytest.raises(CacheError, match=r"not a finished part \(it has no part.json\)"):
        merge_parts(out, [*parts[:2], world.cache])
    other = tmp_path / "other"
    other.mkdir()
    foreign = build_parts(world, other, 3, dtype="float16")
    with pytest.raises(CacheMismatchError, match=r"plan\.identity\.dtype: float32 and float16"):
        merge_parts(out, [parts[0], foreign[1], parts[2]])
    shard = next((parts[1] / "train" / "cls").glob("c/*/0/0"))
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CacheError, match=r"part-1-of-3/train/cls/.*: damaged; build that part"):
        merge_parts(out, parts)
    shard.unlink()
    forged = json.loads((parts[2] / "part.json").read_text())
    records = next(iter(forged["records"].values()))
    next(iter(records.values()))["files"]["../../escape"] = {"sha256": "", "size": 0}
    (parts[2] / "part.json").write_text(json.dumps(forged))
    with pytest.raises(CacheError, match=r"'\.\./\.\./escape' is not the name of a file"):
        merge_parts(out, [parts[0], parts[2], parts[1]])
    with pytest.raises(CacheError, match="missing; build that part again"):
        merge_parts(out, parts)
    assert not out.exists()


def with_another_token(path: Path) -> None:
    """Write an examples file again, well formed, the last token of its first row another one."""
    rows = path.read_bytes()
    table = parse_examples(rows, str(path), regression=False, rows=150)
    tokens = table["input_ids"].to_pylist()
    tokens[0][-1] += 1
    place = table.schema.get_field_index("input_ids")
    column = pa.array(tokens, table.schema.field(place).type)
    write_examples(path, table.set_column(place, table.schema.field(place), column))
    assert len(path.read_bytes()) == len(rows)


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_merge_refuses_a_part_with_other_tokens(
    world: World, tmp_path: Path, damaged: int
) -> None:
    """Whichever part is named first: the tokens of the cache are those of one of them."""
    parts = build_parts(world, tmp_path, 2)
    path = parts[damaged] / "train" / "examples.arrow"
    with_another_token(path)
    with pytest.raises(CacheError, match=rf"{path}: damaged.*again with --overwrite\."):
        merge_parts(tmp_path / "rte.zarr", parts)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CacheError, match=rf"{path}: .*uild that part again with --overwrite\."):
        merge_parts(tmp_path / "rte.zarr", parts)
    path.unlink()
    with pytest.raises(CacheError, match=rf"{path}: missing; build that part again\."):
        merge_parts(tmp_path / "rte.zarr", parts)
    assert not (tmp_path / "rte.zarr").exists()


@pytest.mark.parametrize("name", ["train/logits/c/2/0", "train/examples.arrow"])
def test_a_damaged_part_is_built_again(world: World, tmp_path: Path, name: str) -> None:
    arguments = {
        "prepared": world.prepared, "teacher_name": str(world.teacher), "params": CACHE,
        "out": tmp_path / "part", "share": Share(1, 2),
    }  # fmt: skip
    build_cache(**arguments)  # type: ignore[arg-type]
    whole, path = files_of(tmp_path / "part"), tmp_path / "part" / name
    path.unlink()
    assert not build_cache(**arguments).existed  # type: ignore[arg-type]
    assert files_of(tmp_path / "part") == whole
    path.write_bytes(whole[name][:-1])
    assert not build_cache(**arguments).existed  # type: ignore[arg-type]
    assert files_of(tmp_path / "part") == whole
    path.write_bytes(whole[name][:-1] + bytes([whole[name][-1] ^ 1]))
    assert build_cache(**arguments).existed  # type: ignore[arg-type]  # sizes alone are compared
    assert not build_cache(**arguments, overwrite=True).existed  # type: ignore[arg-type]
    assert files_of(tmp_path / "part") == whole
    assert build_cache(**arguments, overwrite=True).existed  # type: ignore[arg-type]


def test_a_part_of_other_library_versions_can_be_built_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`merge` asks for just that."""
    parts = build_parts(world, tmp_path, 2)
    monkeypatch.setattr("pipeline.caching.plan.version", lambda name: f"0.1.{len(name)}")
    with pytest.raises(OutputExistsError, match=r"described\.versions.*--overwrite"):
        build_parts(world, tmp_path, 2)
    build_cache(
        prepared=world.prepared, teacher_name=str(world.teacher), out=parts[0], params=CACHE,
        share=Share(0, 2), overwrite=True,
    )  # fmt: skip
    with pytest.raises(CacheMismatchError, match=r"described\.versions.*same library versions"):
        merge_parts(tmp_path / "rte.zarr", parts)


def test_a_part_that_is_there_is_held_to_the_largest_error_too(
    world: World, tmp_path: Path
) -> None:
    (part,) = build_parts(world, tmp_path, 1, dtype="int8")
    message = rf"{part}: is built already.* layer \d .*--max-error allows 0\.001\."
    with pytest.raises(CacheError, match=message):
        build_parts(world, tmp_path, 1, dtype="int8", max_error=1e-3)
    build_parts(world, tmp_path, 1, dtype="int8", max_error=2e-2)


def test_a_merge_goes_on_after_a_part_was_mended(world: World, tmp_path: Path) -> None:
    parts = build_parts(world, tmp_path, 3)
    kept = tmp_path / "kept"
    shutil.move(parts[2], kept)
    shutil.copytree(kept, parts[2])
    next((parts[2] / "train" / "logits").glob("c/*/0")).write_bytes(b"")
    with pytest.raises(CacheError, match="damaged"):
        merge_parts(tmp_path / "rte.zarr", parts)
    merge_parts(tmp_path / "rte.zarr", [*parts[:2], kept])
    assert files_of(tmp_path / "rte.zarr") == files_of(world.cache)
    assert check_cache(tmp_path / "rte.zarr") == []


def test_a_malformed_part_is_one_message(world: World, tmp_path: Path) -> None:
    (part,) = build_parts(world, tmp_path, 1)
    record = part / "part.json"
    content = json.loads(record.read_text())
    for changed in ("[]", "{", json.dumps(content | {"format": "x"}), json.dumps({})):
        record.write_text(changed)
        with pytest.raises(CacheError, match=r"part\.json"):
            merge_parts(tmp_path / "rte.zarr", [part])
    del content["records"]
    record.write_text(json.dumps(content))
    with pytest.raises(CacheError, match=r"part\.json: malformed"):
        merge_parts(tmp_path / "rte.zarr", [part])


def test_a_bad_teacher_is_refused_by_the_part_that_sees_the_validation_rows_and_by_merge(
    world: World, tmp_path: Path
) -> None:
    teacher = random_teacher(tmp_path, "bert")
    params = replace(CACHE, max_length=24)
    arguments = {"prepared": world.prepared, "teacher_name": str(teacher), "params": params}
    with pytest.raises(TeacherRefusedError, match="no better than chance"):
        build_cache(**arguments, out=tmp_path / "p0", share=Share(0, 2))  # type: ignore[arg-type]
    build_cache(**arguments, out=tmp_path / "p1", share=Share(1, 2))  # type: ignore[arg-type]
    arguments["params"] = replace(params, allow_weak_teacher=True)
    build_cache(**arguments, out=tmp_path / "p0", share=Share(0, 2))  # type: ignore[arg-type]
    parts = [tmp_path / "p0", tmp_path / "p1"]
    with pytest.raises(TeacherRefusedError, match="no better than chance"):
        merge_parts(tmp_path / "c.zarr", parts)
    merge_parts(tmp_path / "c.zarr", parts, allow_weak_teacher=True)
    assert check_cache(tmp_path / "c.zarr") == []


def test_a_merge_does_not_advise_an_option_that_it_lacks(world: World, tmp_path: Path) -> None:
    """No part holds all validation rows, so that the order of outputs is found by the merge."""
    teacher = permuted_teacher(world, tmp_path / "t")
    params = replace(CACHE, max_length=24, shard_rows=20)
    parts = [tmp_path / f"p{index}" for index in range(2)]
    for index, part in enumerate(parts):
        build_cache(
            prepared=world.prepared, teacher_name=str(teacher), out=part, params=params,
            share=Share(index, 2),
        )  # fmt: skip
    message = (
        "Build every part again with --teacher-labels not_entailment,entailment, "
        "or pass --allow-weak-teacher to keep"
    )
    with pytest.raises(TeacherRefusedError, match=message):
        merge_parts(tmp_path / "c.zarr", parts)
    assert not (tmp_path / "c.zarr").exists()


def test_a_merge_does_not_go_on_with_shards_of_other_library_versions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    parts = build_parts(world, tmp_path, 2)
    monkeypatch.setattr("pipeline.caching.plan.version", lambda name: f"0.1.{len(name)}")
    newer = build_parts(world, tmp_path / "new", 2)
    monkeypatch.undo()
    next((parts[1] / "train" / "logits").glob("c/*/0")).write_bytes(b"")
    with pytest.raises(CacheError, match="damaged"):
        merge_parts(tmp_path / "rte.zarr", parts)
    manifest, _ = merge_parts(tmp_path / "rte.zarr", newer)
    assert manifest.versions["torch"] == "0.1.5"
    assert (tmp_path / ".rte.zarr.set-aside-0").is_dir()
