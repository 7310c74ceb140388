"""pytest tests/pipeline/models/test_attention.py

Shapes: B rows, T tokens of all of them, A heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.batches import Rows, starts_of
from pipeline.errors import ModelError, ParamsError
from pipeline.models.attention import attend
from pipeline.models.hidden_states import cls_states
from pipeline.models.inputs import first_position
from pipeline.models.load import build_classifier, load_classifier
from pipeline.models.running import as_trained, require_packable
from pipeline.models.sharing import share_layers
from pipeline.params import StudentParams
from pipeline.student.fit import fit_student
from pipeline.tasks import BUILT_IN
from pipeline.teacher.fit import fit_teacher
from tests.support.tiny import STUDENT, TEACHER, World, save_encoder

CPU = torch.device("cpu")
LIKE_BERT = ("bert", "minilm", "roberta", "xlm-roberta", "electra", "distilbert")
PACKED = StudentParams(packed=True, dropout=0.0, precision="float32")


def rows_of(*lengths: int, types: bool) -> Rows:
    """Rows of tokens 5, 6, 7, ... after token 2; every second token is of the second text."""
    count = sum(lengths)
    ids_T = torch.arange(count) % 40 + 5
    ends = torch.tensor([0, *lengths]).cumsum(0)
    ids_T[ends[:-1]] = 2
    types_T = torch.arange(count) % 2 if types else None
    return Rows(ids_T, types_T, ends, torch.zeros(len(lengths), dtype=torch.int64), pad_id=0)


def classifier(folder: Path, family: str, layers: int = 2) -> Any:
    encoder = save_encoder(folder / family, family, layers=layers)
    model = build_classifier(str(encoder), BUILT_IN["rte"], layers=layers, seed=0, dropout=0.0)
    torch.manual_seed(7)
    for parameter in model.parameters():  # no bias and no LayerNorm as it was made
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def outcome(model: Any, inputs: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, [CLS] of every layer, and gradients of a loss of both."""
    model.zero_grad()
    output = model(**inputs, output_hidden_states=True)
    layers = tuple(range(len(output.hidden_states)))
    cls_BLH = cls_states(output.hidden_states, layers, starts_of(inputs))
    (output.logits.square().sum() + cls_BLH.sin().sum()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return output.logits, cls_BLH, gradients


def test_packed_inputs_by_hand() -> None:
    rows = rows_of(3, 2, 4, types=True)
    found = rows.packed(torch.tensor([2, 0]), torch.tensor([4, 3]), first_position=1)
    ends = found.pop("cu_seq_lens_q")
    assert ends is found.pop("cu_seq_lens_k")
    assert ends.dtype == torch.int32
    assert ends.tolist() == [0, 4, 7]
    assert (found.pop("max_length_q"), found.pop("max_length_k")) == (4, 4)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "input_ids": [[2, 11, 12, 13, 2, 6, 7]],
        "token_type_ids": [[1, 0, 1, 0, 0, 1, 0]],
        "position_ids": [[1, 2, 3, 4, 1, 2, 3]],
    }


@pytest.mark.parametrize("lengths", [(7, 2, 5), (4, 4), (6,)])
@pytest.mark.parametrize("family", LIKE_BERT)
@pytest.mark.parametrize("layers", [1, 3])
def test_it_equals_the_padded_whole_model(
    tmp_path: Path, family: str, layers: int, lengths: tuple[int, ...]
) -> None:
    model = classifier(tmp_path, family, layers)
    rows = rows_of(*lengths, types=family not in ("roberta", "xlm-roberta", "distilbert"))
    every = torch.arange(len(lengths)).flip(0)
    expected = outcome(model, rows.batch(every, max(lengths)))
    inputs = rows.packed(every, rows.lengths_N[every], first_position(model.config))
    with as_trained(model, PACKED, CPU):
        found = outcome(model, inputs)
        padded = outcome(model, rows.batch(every, max(lengths)))  # as an evaluation asks
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)
    again = outcome(model, rows.batch(every, max(lengths)))
    torch.testing.assert_close(again, expected, rtol=0, atol=0)  # all is as before


def test_shared_blocks_are_packed_too(tmp_path: Path) -> None:
    model, rows = share_layers(classifier(tmp_path, "bert"), "sps"), rows_of(5, 3, types=True)
    every = torch.arange(2)
    expected = outcome(model, rows.batch(every, 5))
    with as_trained(model, PACKED, CPU):
        found = outcome(model, rows.packed(every, rows.lengths_N))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_a_block_diagonal_mask() -> None:
    """Against softmax over all tokens with a mask, written out."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 4, generator=draw) for _ in range(3))
    ends = torch.tensor([0, 4, 5, 9], dtype=torch.int32)
    row_T = torch.bucketize(torch.arange(9), ends[1:].long(), right=True)
    scores_ATT = query[0] @ key[0].transpose(1, 2) * 0.3
    scores_ATT = scores_ATT.masked_fill(row_T[:, None] != row_T, -torch.inf)
    expected_ATD = scores_ATT.softmax(-1) @ value[0]
    found, _ = attend(
        None, query, key, value, None, scaling=0.3, cu_seq_lens_q=ends, cu_seq_lens_k=ends,
        max_length_q=4, max_length_k=4,
    )  # fmt: skip
    torch.testing.assert_close(found[0], expected_ATD.transpose(0, 1))


def trained(world: World, out: Path, *, packed: bool) -> tuple[dict[str, Tensor], list[float]]:
    losses: list[float] = []
    params = replace(
        STUDENT, init=str(world.encoder), strategy="skip", dropout=0.0, packed=packed, match_top=4,
        pretrain="ptp", pretrain_epochs=1,
    )  # fmt: skip
    fit_student(
        cache_path=world.cache, out=out, params=params, sources={},
        on_step=lambda entry: losses.append(entry.losses["total"]),
    )  # fmt: skip
    return load_classifier(str(out)).state_dict(), losses


@contextmanager
def token_batches() -> Iterator[list[int]]:
    """Rows that the embeddings see in every training step."""
    from transformers.models.bert.modeling_bert import BertEmbeddings

    seen: list[int] = []
    original = BertEmbeddings.forward

    def spy(self: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            seen.append(len(input_ids))
        return original(self, input_ids, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BertEmbeddings, "forward", spy)
        yield seen


def test_a_student_is_the_same_packed_or_padded(world: World, tmp_path: Path) -> None:
    """Two epochs of PTP's and of skip's steps, the last layer matched as well."""
    with token_batches() as seen:
        expected, losses = trained(world, tmp_path / "padded", packed=False)
    assert max(seen) == 16
    with token_batches() as seen:
        found, packed_losses = trained(world, tmp_path / "packed", packed=True)
    assert set(seen) == {1}
    assert packed_losses == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_it_makes_no_other_run_and_leaves_no_trace(world: World, tmp_path: Path) -> None:
    params = replace(STUDENT, init=str(world.encoder), dropout=0.0, packed=True)
    out, _ = fit_student(cache_path=world.cache, out=tmp_path / "s", params=params, sources={})
    assert "_attn_implementation" not in (out / "config.json").read_text("utf-8")
    _, record = fit_student(
        cache_path=world.cache, out=tmp_path / "s", params=replace(params, packed=False), sources={}
    )
    assert record["existed"]
    assert record["params"]["packed"] is True


def test_teachers_and_their_folds_can_be_packed(world: World, tmp_path: Path) -> None:
    params = replace(TEACHER, init=str(world.encoder), epochs=1, folds=2, packed=True)
    with token_batches() as seen:
        fit_teacher(prepared=world.prepared, out=tmp_path / "t", params=params, sources={})
    assert set(seen) == {1}
    assert len(seen) == 10 + 2 * 5


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    model = classifier(tmp_path, "bert")
    with pytest.raises(ParamsError, match="needs --precision bfloat16, found float32"):
        require_packable(model, PACKED, torch.device("cuda"))
    require_packable(model, replace(PACKED, precision="bfloat16"), torch.device("cuda"))
    model.bert.encoder.layer[1].attention.self.dropout.p = 0.1
    with pytest.raises(ParamsError, match=r"this encoder's is 0\.1; add --dropout 0"):
        require_packable(model, PACKED, CPU)
    with pytest.raises(ModelError, match=r"`deberta-v2` does not have; .* leave --packed out"):
        require_packable(classifier(tmp_path, "deberta-v2"), PACKED, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_equals_padding_within_bfloat16(tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    model, rows = classifier(tmp_path, "bert", 3).to(cuda), rows_of(7, 2, 19, 5, types=True)
    every, settings = torch.arange(4, device=cuda), replace(PACKED, precision="bfloat16")
    rows = rows.to(cuda)
    expected = outcome(model, rows.batch(every, 19))  # float32
    with as_trained(model, settings, cuda), torch.autocast("cuda", torch.bfloat16):
        found = outcome(model, rows.packed(every, rows.lengths_N.cpu()))
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one.float(), other, rtol=0.03, atol=0.03)
    for name, gradient in expected[2].items():
        gap = (found[2][name] - gradient).norm() / gradient.norm().clamp(min=1e-3)
        assert gap < 0.05, name
