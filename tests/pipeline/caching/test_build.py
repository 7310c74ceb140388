"""pytest tests/pipeline/caching/test_build.py"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.caching.build import build_cache
from pipeline.caching.plan import chosen_layers
from pipeline.caching.shard_values import ShardValues
from pipeline.errors import (
    CacheError,
    ModelError,
    OutputExistsError,
    ParamsError,
    TeacherRefusedError,
)
from pipeline.models.load import build_classifier
from pipeline.store.check import check_cache
from pipeline.store.reader import TeacherCache
from pipeline.store.writer import CacheWriter
from pipeline.tasks import BUILT_IN
from tests.support.synthetic import files_of
from tests.support.tiny import CACHE, FAMILIES, World, save_encoder, tiny_tokenizer


def build(world: World, out: Path, teacher: Path | None = None, **changes: object) -> Path:
    overwrite = bool(changes.pop("overwrite", False))
    build_cache(
        prepared=world.prepared, teacher_name=str(teacher or world.teacher), out=out,
        params=replace(CACHE, **changes), overwrite=overwrite,  # type: ignore[arg-type]
    )  # fmt: skip
    return out


def random_teacher(folder: Path, family: str, layers: int = 3) -> Path:
    """A classifier of a family with random weights: at chance, but a teacher in form."""
    save_encoder(folder / "enc", family, layers)
    model = build_classifier(
        str(folder / "enc"), BUILT_IN["rte"], layers=None, seed=0, dropout=None
    )
    model.save_pretrained(folder / "t")
    tiny_tokenizer(family).save_pretrained(folder / "t")
    return folder / "t"


def permuted_teacher(world: World, folder: Path) -> Path:
    """The world's teacher with its two outputs swapped, and no names that tell."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(world.teacher)
    for tensor in (model.classifier.weight.data, model.classifier.bias.data):
        tensor.copy_(tensor.flip(0))
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    model.save_pretrained(folder)
    tiny_tokenizer("bert").save_pretrained(folder)
    return folder


def stop_here(*_: object, **__: object) -> None:
    """Stands for a step before which a build is stopped."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_cached_as_transformers_computes_it(
    world: World, tmp_path: Path, family: str
) -> None:
    """Row by row, unbatched and unpadded, with plain transformers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    teacher = random_teacher(tmp_path, family)
    out = build(world, tmp_path / "c.zarr", teacher, allow_weak_teacher=True, max_length=16)
    cache = TeacherCache.open(out)
    assert cache.manifest.layers == (1, 2, 3)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    logits, cls = cache.logits("train"), cache.cls("train", (1, 2, 3))
    examples = cache.examples("train")
    table = world.prepared.table("train")
    for row in (0, 39, 40, 77, 149):  # first, both sides of a shard border, inside, last
        texts = table["sentence1"][row].as_py(), table["sentence2"][row].as_py()
        inputs = tokenizer(*texts, truncation=True, max_length=16, return_tensors="pt")
        assert examples["input_ids"][row].as_py() == inputs["input_ids"][0].tolist()
        kinds = inputs.get("token_type_ids")
        expected = None if kinds is None else kinds[0].tolist()
        assert examples["token_type_ids"][row].as_py() == expected
        assert examples["label"][row].as_py() == table["label"][row].as_py()
        with torch.inference_mode():
            output = model(**inputs, output_hidden_states=True)
        np.testing.assert_allclose(logits[row], output.logits[0].numpy(), atol=2e-6)
        for layer in (1, 2, 3):
            vector = output.hidden_states[layer][0, 0].numpy()
            np.testing.assert_allclose(cls[row, layer - 1], vector, atol=5e-6)


def test_a_build_is_deterministic_and_sound(world: World, tmp_path: Path) -> None:
    again = build(world, tmp_path / "again.zarr")
    assert files_of(again) == files_of(world.cache)
    assert check_cache(again) == []


def test_a_shard_is_written_while_the_next_one_is_computed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing, real_shard, real_write = Event(), ShardValues.shard, CacheWriter.write_shard

    def shard(self: ShardValues, split: str, number: int, *more: Any) -> Any:
        if (split, number) == ("train", 1):
            computing.set()
        return real_shard(self, split, number, *more)

    def write_shard(self: CacheWriter, split: str, number: int, *values: Any, **more: Any) -> None:
        assert (split, number) != ("train", 0) or computing.wait(timeout=60)
        real_write(self, split, number, *values, **more)

    monkeypatch.setattr(ShardValues, "shard", shard)
    monkeypatch.setattr(CacheWriter, "write_shard", write_shard)
    assert files_of(build(world, tmp_path / "c.zarr", world.teacher)) == files_of(world.cache)


def test_an_error_of_the_writer_ends_the_build(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CacheWriter, "write_shard", full)
    with pytest.raises(OSError, match="No space left"):
        build(world, tmp_path / "c.zarr", world.teacher)
    assert not (tmp_path / "c.zarr").exists()


def test_outputs_are_the_same_however_many_batches_wait_on_the_device(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.teacher.forward.HELD_BYTES", 0)
    assert files_of(build(world, tmp_path / "c.zarr", world.teacher)) == files_of(world.cache)


def test_the_manifest_says_what_a_student_must_know(world: World) -> None:
    manifest = TeacherCache.open(world.cache16).manifest
    assert manifest.task["label_names"] == ["entailment", "not_entailment"]
    assert manifest.max_length == 24  # the teacher's own record
    assert manifest.teacher["base"]["name"] == "encoder"
    assert manifest.teacher["base"]["hub_id"] is None
    assert manifest.teacher["scores"]["validation"]["accuracy"] > 0.6
    assert {name: split.rows for name, split in manifest.splits.items()} == {
        "validation": 37, "train": 150, "test": 11,
    }  # fmt: skip
    assert manifest.splits["test"].labelled_rows == 0
    assert 1e-5 < manifest.measured_error["layers"]["2"]["relative_l2_max"] < 1e-3
    exact = TeacherCache.open(world.cache).manifest.measured_error
    assert exact["layers"]["2"]["relative_l2_max"] < 1e-5


def test_a_stopped_build_computes_only_what_is_missing(world: World, tmp_path: Path) -> None:
    ticks = 0

    def stop(*_: object, **__: object) -> None:
        nonlocal ticks
        ticks += 1
        if ticks > 12:
            raise KeyboardInterrupt

    arguments = {
        "prepared": world.prepared, "teacher_name": str(world.teacher),
        "out": tmp_path / "c.zarr", "params": CACHE,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        build_cache(**arguments, tick=stop)  # type: ignore[arg-type]
    assert not (tmp_path / "c.zarr").exists()
    built = build_cache(**arguments)  # type: ignore[arg-type]
    assert built.resumed_shards > 0
    assert 0 < built.computed_rows < 198
    assert built.train_pass_seconds is None  # a part of the rows was computed before
    assert files_of(tmp_path / "c.zarr") == files_of(world.cache)


def test_the_same_again_does_nothing_and_another_is_refused(world: World, tmp_path: Path) -> None:
    out = build(world, tmp_path / "c.zarr", layers="2,4")
    before = files_of(out)
    built = build_cache(
        prepared=world.prepared, teacher_name=str(world.teacher), out=out,
        params=replace(CACHE, layers="4,2"),
    )  # fmt: skip
    assert built.existed
    with pytest.raises(
        OutputExistsError, match=r"layers \[2, 4\], asked for \[1, 2, 3, 4\]; pass --o"
    ):
        build(world, out)
    with pytest.raises(OutputExistsError, match="shard_rows 40, asked for 64"):
        build(world, out, layers="2,4", shard_rows=64)
    assert files_of(out) == before
    build(world, out, overwrite=True)
    assert files_of(out) == files_of(world.cache)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="is not a cache, so it will not be replaced"):
            build(world, tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest"])
def test_a_damaged_cache_can_be_built_again(world: World, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "c.zarr"
    shutil.copytree(world.cache, out)
    path = out / ("manifest.json" if damage == "manifest" else "train/logits/c/0/0")
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content[:-1] if damage == "cut" else content)
    if damage != "flip":  # a build looks at sizes; `verify` and --overwrite at every byte
        with pytest.raises(OutputExistsError, match="damaged .* pass --overwrite to replace it"):
            build(world, out)
    build(world, out, overwrite=True)
    assert files_of(out) == files_of(world.cache)


def test_a_teacher_at_chance_is_refused_before_the_training_rows(
    world: World, tmp_path: Path
) -> None:
    teacher = random_teacher(tmp_path, "bert")
    with pytest.raises(TeacherRefusedError, match="no better than chance .* --allow-weak-teacher"):
        build(world, tmp_path / "c.zarr", teacher, layers="1", max_length=24)
    assert not (tmp_path / "c.zarr").exists()
    assert not (tmp_path / ".c.zarr.partial" / "train").exists()


def test_outputs_in_another_order_are_refused_and_can_be_named(
    world: World, tmp_path: Path
) -> None:
    """The classic MNLI mistake, found by what the teacher says of the validation rows."""
    permuted_teacher(world, tmp_path / "t")
    names = "not_entailment,entailment"
    with pytest.raises(TeacherRefusedError, match=rf"another order .* --teacher-labels {names}"):
        build(world, tmp_path / "c.zarr", tmp_path / "t", max_length=24)
    out = build(world, tmp_path / "c.zarr", tmp_path / "t", max_length=24, teacher_labels=names)
    wrong = {"max_length": 24, "teacher_labels": "entailment,not_entailment"}
    with pytest.raises(TeacherRefusedError, match=rf"as they are, .* as {names}. Pass"):
        build(world, tmp_path / "d.zarr", tmp_path / "t", **wrong)
    with pytest.raises(OutputExistsError, match=r"output_order \[1, 0\], asked for \[0, 1\]"):
        build(world, out, tmp_path / "t", **wrong)
    same = TeacherCache.open(world.cache).logits("train")
    np.testing.assert_allclose(TeacherCache.open(out).logits("train"), same, atol=1e-6)


def test_names_in_another_order_are_refused_by_name(world: World, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(world.teacher)
    model.config.id2label = {0: "Not_Entailment", 1: "Entailment"}
    model.save_pretrained(tmp_path / "t")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "t")
    with pytest.raises(TeacherRefusedError, match="pass --teacher-labels not_entailment,entail"):
        build(world, tmp_path / "c.zarr", tmp_path / "t")


def test_a_wrong_flag_or_teacher_says_what_was_expected(world: World, tmp_path: Path) -> None:
    out = tmp_path / "c.zarr"
    with pytest.raises(ParamsError, match="expected the labels of rte .* entailment,not_entail"):
        build(world, out, teacher_labels="yes,no")
    with pytest.raises(ParamsError, match="--layers a,b: expected `all`"):
        build(world, out, layers="a,b")
    with pytest.raises(ModelError, match="reads at most 64 tokens, max_length is 65"):
        build(world, out, max_length=65)
    with pytest.raises(ParamsError, match=r"--layers 2,5: the teacher has layers 1\.\.4"):
        build(world, out, layers="2,5")
    with pytest.raises(ModelError, match="no such folder"):
        build(world, out, tmp_path / "gone" / "teacher")
    model = build_classifier(
        str(world.encoder), BUILT_IN["mnli"], layers=None, seed=0, dropout=None
    )
    model.save_pretrained(tmp_path / "three")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "three")
    with pytest.raises(TeacherRefusedError, match="has 3 outputs, task rte needs 2"):
        build(world, out, tmp_path / "three")
    assert not out.exists()


def test_layers_are_parsed() -> None:
    assert chosen_layers("all", 3) == (1, 2, 3)
    assert chosen_layers("8,4,4", 12) == (4, 8)


def test_int8_is_as_exact_as_its_manifest_says(world: World, tmp_path: Path) -> None:
    """Against the float32 cache of the same teacher, by a second formula."""
    out = build(world, tmp_path / "c.zarr", dtype="int8")
    assert check_cache(out) == []
    small, exact = TeacherCache.open(out), TeacherCache.open(world.cache)
    for layer in (1, 2, 3, 4):
        found, wanted = small.cls("train", [layer])[:, 0], exact.cls("train", [layer])[:, 0]
        assert found.dtype == np.float32
        step = np.abs(wanted).max(axis=-1, keepdims=True) / 127
        assert (np.abs(found - wanted) <= step / 2 * 1.001).all()
        relative = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
        stated = small.manifest.measured_error["layers"][str(layer)]
        assert 1e-3 < stated["relative_l2_mean"] < 2e-2
        assert stated["relative_l2_mean"] == pytest.approx(relative.mean(), rel=0.2)
        assert relative.max() < 2 * stated["relative_l2_max"]


def test_a_build_refuses_to_be_less_exact_than_asked(world: World, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"Layer \d: a stored \[CLS\] differs .* --max-error allo"):
        build(world, tmp_path / "c.zarr", dtype="int8", max_error=1e-3)
    assert not (tmp_path / "c.zarr").exists()
    build(world, tmp_path / "c.zarr", dtype="int8", max_error=2e-2)
    build(world, tmp_path / "d.zarr", dtype="float16", max_error=1e-3)


def test_shards_of_an_earlier_run_are_held_to_the_limit_of_this_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a build that stopped just before its end: no shard is left to be computed."""
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "finish", stop_here)
        with pytest.raises(KeyboardInterrupt):
            build(world, tmp_path / "c.zarr", dtype="int8")
    with pytest.raises(CacheError, match=r"Layer \d: .* --max-error allows 0\.001"):
        build(world, tmp_path / "c.zarr", dtype="int8", max_error=1e-3)
    assert not (tmp_path / "c.zarr").exists()
    build(world, tmp_path / "c.zarr", dtype="int8", max_error=2e-2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_cache_that_is_there_is_held_to_the_limit_too(
    world: World, tmp_path: Path, overwrite: bool
) -> None:
    out = build(world, tmp_path / "c.zarr", dtype="int8")
    before = files_of(out)
    layers = TeacherCache.open(out).manifest.measured_error["layers"]
    largest = max(each["relative_l2_max"] for each in layers.values())
    message = (
        rf"{out}: is built already, and in layer \d .* by {largest:g} of its length; "
        r"--max-error allows 0\.001\. .*--overwrite and a wider --dtype.*larger --max-error"
    )
    with pytest.raises(CacheError, match=message):
        build(world, out, dtype="int8", max_error=1e-3, overwrite=overwrite)
    assert files_of(out) == before
    build(world, out, dtype="int8", max_error=largest * 0.9999, overwrite=overwrite)  # as rounded


def test_a_build_does_not_go_on_with_shards_of_other_library_versions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest states one version of each."""
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "finish", stop_here)
        patch.setattr("pipeline.caching.plan.version", lambda name: f"0.1.{len(name)}")
        with pytest.raises(KeyboardInterrupt):
            build(world, tmp_path / "c.zarr")
    built = build_cache(
        prepared=world.prepared, teacher_name=str(world.teacher), out=tmp_path / "c.zarr",
        params=CACHE,
    )  # fmt: skip
    assert built.set_aside
    assert built.resumed_shards == 0
    assert built.computed_rows == 198
    assert files_of(tmp_path / "c.zarr") == files_of(world.cache)


def test_the_error_of_bfloat16_is_stated(world: World, tmp_path: Path) -> None:
    out = build(world, tmp_path / "c.zarr", dtype="float32", compute="bfloat16")
    manifest = TeacherCache.open(out).manifest
    assert manifest.compute == "bfloat16"
    assert 1e-3 < manifest.measured_error["layers"]["4"]["relative_l2_mean"] < 5e-2
    assert 1e-4 < manifest.measured_error["logits_abs_max"] < 1


def test_label_agreement_is_the_share_of_rows_on_which_both_agree(world: World) -> None:
    cache = TeacherCache.open(world.cache)
    labels = np.array(cache.examples("validation")["label"].to_pylist())
    share = float((cache.logits("validation").argmax(-1) == labels).mean())
    assert cache.manifest.teacher["agreement"]["validation"] == pytest.approx(share)
    assert "test" not in cache.manifest.teacher["agreement"]  # it has no labels


def test_values_beyond_float16_name_the_layer(world: World, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(world.teacher)
    model.bert.encoder.layer[2].output.LayerNorm.weight.data.mul_(1e6)
    model.save_pretrained(tmp_path / "t")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "t")
    with pytest.raises(CacheError, match="Layer 3 has values up to .* --dtype float32"):
        build(
            world, tmp_path / "c.zarr", tmp_path / "t",
            dtype="float16", allow_weak_teacher=True, max_length=24,
        )  # fmt: skip
    assert not (tmp_path / "c.zarr").exists()
