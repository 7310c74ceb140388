"""pytest tests/pipeline/student/test_init.py"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import CacheMismatchError, ModelError, ParamsError
from pipeline.models.load import load_classifier, load_tokenizer
from pipeline.params import StudentParams
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.student.fit import fit_student
from pipeline.student.init import Start, build_student, resized, start_layers
from pipeline.student.recipe import settle
from pipeline.tasks import BUILT_IN
from tests.support import tiny
from tests.support.tiny import FAMILIES, STUDENT, World, save_encoder, tiny_config

RTE = BUILT_IN["rte"]


def start_of(init: Path, kind: str, layers: tuple[int, ...], blocks: int = 2, **more: Any) -> Start:
    values: dict[str, Any] = {"hidden_size": 16, "share": "none", "teacher_digest": ""} | more
    return Start(init=str(init), kind=kind, layers=layers, blocks=blocks, **values)


def student(start: Start, **more: Any) -> Any:
    return build_student(start, RTE, **({"seed": 0, "dropout": None} | more))


def settled(world: World, **changes: Any) -> Start:
    changes.setdefault("init", str(world.teacher))
    params = replace(STUDENT, **changes)
    return settle(read_manifest(world.cache16), params, "c").start


def fit(world: World, out: Path, **changes: Any) -> dict[str, Any]:
    start: dict[str, Any] = {"init": str(world.encoder), "epochs": 1}
    params = replace(STUDENT, **(start | changes))
    return fit_student(cache_path=world.cache16, out=out, params=params, sources={})[1]


@pytest.mark.parametrize(
    ("kind", "encoder", "student_layers", "expected"),
    [
        ("first", 12, 3, (1, 2, 3)),
        ("teacher", 12, 3, (1, 2, 3)),
        ("alternate", 12, 6, (2, 4, 6, 8, 10, 12)),
        ("alternate", 12, 3, (4, 8, 12)),
        ("alternate", 6, 4, (2, 3, 5, 6)),
        ("alternate", 4, 4, (1, 2, 3, 4)),
        ("random", 2, 9, ()),
    ],
)
def test_the_layers_of_each_kind(
    kind: str, encoder: int, student_layers: int, expected: tuple[int, ...]
) -> None:
    assert start_layers(kind, encoder, student_layers) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_alternate_layers_are_those_of_the_encoder(tmp_path: Path, family: str) -> None:
    """Against plain transformers, whose list of blocks is cut by hand."""
    from transformers import AutoModel

    folder = save_encoder(tmp_path / "e", family)
    found = student(start_of(folder, "alternate", (2, 4))).eval()
    whole = AutoModel.from_pretrained(folder).eval()
    body = whole.transformer if family == "distilbert" else whole.encoder
    body.layer = torch.nn.ModuleList([body.layer[1], body.layer[3]])
    whole.config.num_hidden_layers = 2
    inputs = load_tokenizer(str(folder))("w1 sun", "w2 w3", return_tensors="pt")
    with torch.inference_mode():
        expected = whole(**inputs).last_hidden_state
        states = found(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[-1], expected)
    assert len(states) == 3


def test_the_pooler_comes_along_and_the_head_is_new(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = save_encoder(tmp_path / "e")
    one, other = (student(start_of(folder, "alternate", (2, 4)), seed=seed) for seed in (0, 1))
    pooler = AutoModel.from_pretrained(folder).pooler.dense.weight
    assert torch.equal(one.bert.pooler.dense.weight, pooler)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.training


def test_all_layers_of_the_teacher_are_the_teacher(world: World) -> None:
    """Its head is taken over: at full depth the student answers as the teacher does."""
    start = settled(world, init_layers="teacher", student_layers=4)
    found, teacher = student(start).eval(), load_classifier(str(world.teacher))
    inputs = load_tokenizer(str(world.teacher))("w1 sun", "w2 w3", return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(found(**inputs).logits, teacher(**inputs).logits)


def test_the_first_layers_of_the_teacher(world: World) -> None:
    start = settled(world, init_layers="teacher")
    teacher = load_classifier(str(world.teacher)).state_dict()
    weights = student(start).state_dict()
    assert all(torch.equal(teacher[name], weight) for name, weight in weights.items())
    assert len([name for name in teacher if name not in weights]) > 0
    fresh = student(start, new_head=True).state_dict()
    differs = {name for name, weight in fresh.items() if not torch.equal(teacher[name], weight)}
    assert differs == {"classifier.weight", "classifier.bias"}


def test_another_model_is_not_taken_for_the_teacher(world: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(world.teacher, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights["classifier.bias"] += 1e-3
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="is not the teacher that the cache was built with"):
        fit(world, tmp_path / "s", init=str(tmp_path / "other"), init_layers="teacher")
    assert not (tmp_path / "s").exists()


def test_the_teachers_folder_must_be_named_and_its_labels_in_order(world: World) -> None:
    with pytest.raises(ParamsError, match="name the folder of rte with --init"):
        settled(world, init_layers="teacher", init=None)
    manifest = read_manifest(world.cache16)
    teacher = manifest.teacher | {"output_order": [1, 0]}
    permuted: Manifest = replace(manifest, teacher=teacher)
    params = replace(STUDENT, init=str(world.teacher), init_layers="teacher")
    with pytest.raises(ParamsError, match="in another order than the task's labels"):
        settle(permuted, params, "c")


def test_random_weights_are_drawn_by_the_seed_alone(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "e", layers=2)
    start = start_of(folder, "random", (), blocks=3)
    one, same, other = (student(start, seed=seed).state_dict() for seed in (5, 5, 6))
    assert one["bert.encoder.layer.2.output.dense.weight"].std() == pytest.approx(0.2, rel=0.2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    words = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(one[words], other[words])
    assert not torch.equal(
        one[words], student(start_of(folder, "first", (1, 2))).state_dict()[words]
    )


@pytest.mark.parametrize(
    ("hidden", "heads", "inner"), [(384, 6, 1536), (312, 4, 1248), (64, 1, 256), (60, 1, 240)]
)
def test_heads_and_inner_layers_of_a_narrower_bert_base(
    hidden: int, heads: int, inner: int
) -> None:
    from transformers import BertConfig

    found = resized(BertConfig(), hidden)
    shape = found.hidden_size, found.num_attention_heads, found.intermediate_size
    assert shape == (hidden, heads, inner)
    assert BertConfig().hidden_size == 768


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_narrower(tmp_path: Path, family: str) -> None:
    folder = save_encoder(tmp_path / "e", family)
    model = student(start_of(folder, "random", (), hidden_size=8)).eval()
    inputs = load_tokenizer(str(folder))("w1 sun", "w2 w3", return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    assert [state.shape[-1] for state in states[1:]] == [8, 8]


def test_pretrained_weights_cannot_be_cut_to_a_width(world: World, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"--hidden-size 8: the weights of .* are of hidden size 16"
    ):
        fit(world, tmp_path / "s", hidden_size=8)
    assert settled(world, hidden_size=16).hidden_size == 16  # what it has anyway


def test_a_narrower_student_learns_a_projection(world: World, tmp_path: Path) -> None:
    """`--hidden-size` implies `--project`; the projection is no part of the finished student."""
    params = replace(STUDENT, init=str(world.encoder), init_layers="random", hidden_size=8)
    recipe = settle(read_manifest(world.cache16), params, "c")
    weight = recipe.strategy.projection.weight
    assert isinstance(weight, torch.Tensor)
    assert weight.shape == (16, 8)
    record = fit(world, tmp_path / "s", init_layers="random", hidden_size=8)
    torch.manual_seed(99)  # the seed that counts is that of the parameters
    fit(world, tmp_path / "again", init_layers="random", hidden_size=8)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("s", "again")]
    assert weights[0] == weights[1]
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "pt", "total"}
    assert load_classifier(str(tmp_path / "s")).config.hidden_size == 8
    assert (
        "random weights, with the configuration of `encoder`"
        in (tmp_path / "s" / "README.md").read_text()
    )
    assert record["start_layers"] == []


def test_an_encoder_of_another_width_still_needs_project(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.SHAPE, "hidden_size", 24)
    wide = str(save_encoder(tmp_path / "wide"))
    with pytest.raises(CacheMismatchError, match="pass --project"):
        settled(world, init=wide)
    assert settled(world, init=wide, project=True).hidden_size == 24


@pytest.mark.parametrize(
    ("kind", "init", "sentence", "layers"),
    [
        ("first", "encoder", "the first 2 layers of `encoder`", [1, 2]),
        ("alternate", "encoder", "layers 2, 4 of `encoder`", [2, 4]),
        ("teacher", "teacher", "the first 2 layers and the head of the teacher itself", [1, 2]),
    ],
)
def test_card_and_record_say_what_a_student_started_from(
    world: World, tmp_path: Path, kind: str, init: str, sentence: str, layers: list[int]
) -> None:
    fit(world, tmp_path / "s", init=str(getattr(world, init)), init_layers=kind)
    record = json.loads((tmp_path / "s" / "run.json").read_text())
    assert record["start_layers"] == layers
    assert f"* Started from {sentence}" in (tmp_path / "s" / "README.md").read_text()


def test_too_deep_for_the_encoder(world: World) -> None:
    for kind in ("first", "alternate"):
        with pytest.raises(ModelError, match="has 4 layers, fewer than the 5 asked for"):
            settled(world, init_layers=kind, student_layers=5, strategy="kd")
    assert settled(world, init_layers="random", student_layers=5, strategy="kd").blocks == 5


def test_blocks_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    """A name without a number leaves the student's block without weights."""
    from transformers import AutoModel

    folder = tmp_path / "e"
    save_encoder(folder)
    start = start_of(folder, "alternate", (2, 9))  # there is no ninth
    with pytest.raises(ModelError, match="its layers cannot be chosen one by one"):
        student(start)
    assert AutoModel.from_pretrained(folder).config.num_hidden_layers == 4


def test_the_defaults_are_those_of_the_paper() -> None:
    params = StudentParams()
    assert (params.init_layers, params.hidden_size, params.share) == ("first", None, "none")
    assert tiny_config("bert", 2).num_hidden_layers == 2
