"""Pretraining the demo's base: it learns, is repeatable, and loads like any checkpoint."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from pipeline.demo.grammar import MAX_TOKENS, Passage, demo_splits, demo_vocabulary
from pipeline.demo.pretrain import (
    IGNORED,
    PretrainSettings,
    demo_tokenizer,
    growth,
    hide,
    pretrain_base,
    tensors,
)

TINY = PretrainSettings(layers=3, hidden_size=16, heads=2, steps=60, batch_size=8, warmup_steps=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[float]]:
    out, losses = tmp_path_factory.mktemp("base"), list[float]()
    record = pretrain_base(
        out, settings=TINY, on_step=lambda _done, _all, loss: losses.append(loss)
    )
    return out, record, losses


def test_the_loss_falls_and_is_recorded(run: tuple[Path, dict[str, Any], list[float]]) -> None:
    _, record, losses = run
    assert len(losses) == TINY.steps
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert record["loss"] == pytest.approx(sum(losses[-50:]) / 50)
    assert 0 <= record["masked_accuracy"] <= 1
    assert record["settings"]["layers"] == 3


def test_the_folder_loads_with_the_auto_classes(
    run: tuple[Path, dict[str, Any], list[float]],
) -> None:
    out, record, _ = run
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out, num_labels=2).eval()
    pair = demo_splits(seed=0, train_rows=2, validation_rows=2, test_rows=2)["train"][0]
    encoded = tokenizer(pair.sentence1, pair.sentence2, return_tensors="pt")
    assert tokenizer.unk_token_id not in encoded.input_ids
    assert model(**encoded).logits.shape == (1, 2)
    masked = AutoModelForMaskedLM.from_pretrained(out)
    saved = load_file(out / "model.safetensors")
    assert record["parameters"] >= sum(weight.numel() for weight in masked.parameters())
    assert torch.equal(saved["bert.pooler.dense.weight"], model.bert.pooler.dense.weight)


def test_all_layers_are_kept_and_trained(run: tuple[Path, dict[str, Any], list[float]]) -> None:
    saved = load_file(run[0] / "model.safetensors")
    for layer in range(3):
        assert saved[f"bert.encoder.layer.{layer}.output.dense.weight"].abs().max() > 0


def test_the_configuration_carries_the_dropout_for_fine_tuning(tmp_path: Path) -> None:
    settings = PretrainSettings(
        layers=1, hidden_size=8, heads=1, steps=5, batch_size=4, warmup_steps=1, dropout=0.25
    )
    pretrain_base(tmp_path, settings=settings)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.25, 0.25)
    assert config.num_hidden_layers == 1


def test_same_seed_same_weights_other_seed_other_weights(
    run: tuple[Path, dict[str, Any], list[float]], tmp_path: Path
) -> None:
    pretrain_base(tmp_path / "again", settings=TINY)
    other = PretrainSettings(**{**TINY.__dict__, "seed": 1})
    pretrain_base(tmp_path / "other", settings=other)
    first, again = (load_file(p / "model.safetensors") for p in (run[0], tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], load_file(tmp_path / "other/model.safetensors")[name])


def test_the_tokenizer_splits_pairs_as_pretraining_does() -> None:
    tokenizer = demo_tokenizer()
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == demo_vocabulary()
    passage = Passage("anna wears the hat . anna and ben swap .", "ben wears the hat .", ("anna",))
    row = hide(random.Random(0), passage, pair_swaps=1)._replace(
        words=["[CLS]", *passage.story.split(), "[SEP]", *passage.conclusion.split(), "[SEP]"]
    )
    encoded = tokenizer(passage.story, passage.conclusion, return_tensors="pt")
    batch = tensors([row])
    assert torch.equal(batch.inputs_BT, encoded.input_ids)
    assert torch.equal(batch.types_BT, encoded.token_type_ids)


def test_hiding_asks_for_the_true_wearer_whatever_is_shown() -> None:
    passage = Passage(
        "anna wears the hat . anna and ben swap .", "ben wears the hat .", ("anna", "rex")
    )
    rng = random.Random(0)
    shown: dict[str, set[int]] = {}
    for _ in range(200):
        row = hide(rng, passage, pair_swaps=1)
        assert row.asked[row.place] == "ben"
        shown.setdefault(row.words[row.place], set()).add(row.pair)
    assert shown == {"[MASK]": {IGNORED}, "ben": {0}, "anna": {1}, "rex": {1}}


def test_long_stories_do_not_train_the_pair_objective() -> None:
    passage = Passage("a story of swap swap", "ben wears the hat .", ("anna", "rex"))
    assert {hide(random.Random(s), passage, pair_swaps=1).pair for s in range(30)} == {IGNORED}


def test_padding_is_masked_and_never_asked_for() -> None:
    short = Passage("anna wears the hat .", "anna wears the hat .", ("ben",))
    long = Passage("anna wears the hat . anna and ben swap .", "ben wears the hat .", ("anna",))
    batch = tensors([hide(random.Random(0), p, pair_swaps=1) for p in (short, long)])
    assert batch.inputs_BT.shape == batch.labels_BT.shape == (2, 18)
    assert batch.mask_BT.sum(1).tolist() == [13, 18]
    assert (batch.labels_BT[batch.mask_BT == 0] == IGNORED).all()
    assert (batch.inputs_BT[batch.mask_BT == 0] == 0).all()


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6, 12])
def test_growth_ends_with_every_layer_and_uses_every_step(layers: int) -> None:
    stages = growth(PretrainSettings(layers=layers, steps=101))
    assert [stage.layers for stage in stages] == sorted(stage.layers for stage in stages)
    assert stages[-1].layers == layers
    assert sum(stage.steps for stage in stages) == 101
    assert all(stage.layers >= 1 for stage in stages)


def test_the_longest_story_fits_the_positions(
    run: tuple[Path, dict[str, Any], list[float]],
) -> None:
    assert AutoConfig.from_pretrained(run[0]).max_position_embeddings == MAX_TOKENS
