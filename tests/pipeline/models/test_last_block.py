"""pytest tests/pipeline/models/test_last_block.py"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from pipeline.batches import Rows
from pipeline.caching.build import build_cache
from pipeline.caching.rerun import rerun
from pipeline.models.last_block import last_block_at_cls
from pipeline.models.load import build_classifier, load_classifier
from pipeline.models.sharing import share_layers
from pipeline.student.fit import fit_student
from pipeline.tasks import BUILT_IN
from pipeline.teacher.fit import fit_teacher
from pipeline.training.evaluate import predict
from tests.support.tiny import (
    CACHE,
    FAMILIES,
    STUDENT,
    TEACHER,
    World,
    save_encoder,
    tiny_tokenizer,
)

LIKE_BERT = ("bert", "minilm", "roberta", "xlm-roberta", "electra", "distilbert")
LENGTHS = {"padded": ["w1 sun w2 w3 rain", "w4"], "all as long": ["w1 sun w2", "w4 w5 w6"]}


def classifier(folder: Path, family: str, layers: int = 2) -> Any:
    encoder = save_encoder(folder / family, family, layers=layers)
    model = build_classifier(
        str(encoder), BUILT_IN["rte"], layers=layers, seed=0, dropout=0.0
    )  # in train mode
    torch.manual_seed(7)
    for parameter in model.parameters():  # no bias and no LayerNorm as it was made
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def inputs_of(family: str, lengths: str) -> Any:
    return tiny_tokenizer(family)(LENGTHS[lengths], return_tensors="pt", padding=True)


def outcome(model: Any, inputs: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, [CLS] of every layer, and gradients of a loss of both."""
    model.zero_grad()
    output = model(**inputs, output_hidden_states=True)
    cls_LBH = torch.stack([states[:, 0] for states in output.hidden_states])
    (output.logits.square().sum() + cls_LBH.sin().sum()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return output.logits, cls_LBH, gradients


def tokens_out(model: Any, inputs: Any) -> list[int]:
    states = model(**inputs, output_hidden_states=True).hidden_states
    return [each.shape[1] for each in states]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("family", LIKE_BERT)
@pytest.mark.parametrize("layers", [1, 2])
def test_logits_cls_vectors_and_gradients_are_the_same(
    tmp_path: Path, family: str, layers: int, lengths: str
) -> None:
    model, inputs = classifier(tmp_path, family, layers), inputs_of(family, lengths)
    expected, whole = outcome(model, inputs), tokens_out(model, inputs)
    with last_block_at_cls(model):
        found, narrow = outcome(model, inputs), tokens_out(model, inputs)
    assert narrow == [*whole[:-1], 1]  # it does happen
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert tokens_out(model, inputs) == whole


@pytest.mark.parametrize("share", ["sps", "sps1"])
def test_the_last_pass_of_shared_blocks_alone_is_narrow(tmp_path: Path, share: str) -> None:
    model, inputs = share_layers(classifier(tmp_path, "bert"), share), inputs_of("bert", "padded")
    expected = outcome(model, inputs)
    with last_block_at_cls(model):
        found, narrow = outcome(model, inputs), tokens_out(model, inputs)
    assert len(set(narrow[:-1])) == 1
    assert narrow[-1] == 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_dropout_of_the_last_block_is_on_in_training(tmp_path: Path) -> None:
    model, inputs = classifier(tmp_path, "bert", 1), inputs_of("bert", "padded")
    block = model.bert.encoder.layer[0]
    for dropout in (block.attention.self.dropout, block.output.dropout):
        dropout.p = 0.5
        with torch.inference_mode(), last_block_at_cls(model.train()):
            assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
        with torch.inference_mode(), last_block_at_cls(model.eval()):
            assert torch.equal(model(**inputs).logits, model(**inputs).logits)
        dropout.p = 0.0


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(LIKE_BERT)))
def test_other_families_run_as_they_are(tmp_path: Path, family: str) -> None:
    model, inputs = classifier(tmp_path, family), inputs_of(family, "padded")
    whole = tokens_out(model, inputs)
    with last_block_at_cls(model):
        assert tokens_out(model, inputs) == whole


def test_another_attention_runs_as_it_is(tmp_path: Path) -> None:
    model, inputs = classifier(tmp_path, "bert"), inputs_of("bert", "padded")
    model.set_attn_implementation("eager")
    with last_block_at_cls(model):
        assert tokens_out(model, inputs)[-1] > 1


def test_inside_a_second_time_it_ends_with_the_first(tmp_path: Path) -> None:
    model, inputs = classifier(tmp_path, "bert"), inputs_of("bert", "padded")
    whole = tokens_out(model, inputs)
    with last_block_at_cls(model):
        with last_block_at_cls(model):
            assert tokens_out(model, inputs)[-1] == 1
        assert tokens_out(model, inputs)[-1] == 1
    assert tokens_out(model, inputs) == whole


def test_it_ends_with_an_error_too(tmp_path: Path) -> None:
    model, inputs = classifier(tmp_path, "bert"), inputs_of("bert", "padded")
    with pytest.raises(KeyError), last_block_at_cls(model):
        raise KeyError
    assert tokens_out(model, inputs)[-1] > 1


@contextmanager
def widths_of_last_blocks() -> Iterator[list[int]]:
    """Tokens that come out of every call of a model's last block."""
    from transformers.models.bert.modeling_bert import BertEncoder

    seen: list[int] = []

    def spy(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, BertEncoder):
            seen.append(output.last_hidden_state.shape[1])

    handle = register_module_forward_hook(spy)
    try:
        yield seen
    finally:
        handle.remove()


def test_training_and_scoring_of_a_student_use_it(world: World, tmp_path: Path) -> None:
    params = replace(
        STUDENT, init=str(world.encoder), strategy="skip", epochs=1, pretrain="ptp",
        pretrain_epochs=1,
    )  # fmt: skip
    with widths_of_last_blocks() as seen:
        fit_student(cache_path=world.cache, out=tmp_path / "s", params=params, sources={})
    assert set(seen) == {1}


def test_training_of_a_teacher_and_of_its_folds_uses_it(world: World, tmp_path: Path) -> None:
    params = replace(TEACHER, init=str(world.encoder), epochs=1, folds=2)
    with widths_of_last_blocks() as seen:
        fit_teacher(prepared=world.prepared, out=tmp_path / "t", params=params, sources={})
    assert set(seen) == {1}


def test_predictions_use_it(world: World) -> None:
    model = load_classifier(str(world.teacher))
    rows = Rows(
        torch.tensor([2, 5, 6, 3, 2, 7, 3]), None, torch.tensor([0, 4, 7]), torch.tensor([0, 1]), 0
    )
    expected = model(**rows.batch(torch.arange(2), 4)).logits
    with widths_of_last_blocks() as seen:
        found = predict(model, rows, 2)
    assert seen == [1]
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_a_build_uses_it_and_is_checked_against_the_whole_model(
    world: World, tmp_path: Path
) -> None:
    """What a manifest states as the error, and `verify --teacher`, come from the plain model."""
    teacher, out = str(world.teacher), tmp_path / "c.zarr"
    with widths_of_last_blocks() as seen:
        build_cache(prepared=world.prepared, teacher_name=teacher, out=out, params=CACHE)
    assert 1 in seen
    assert max(seen) > 1
    with widths_of_last_blocks() as seen:
        found = rerun(out, teacher, 20, "cpu")
    assert min(seen) > 1
    assert found["logits_abs_max"] < 1e-5
