"""pytest tests/pipeline/models/test_inputs.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from pipeline.errors import CacheMismatchError
from pipeline.models.inputs import input_names, made_up_rows, require_readable
from pipeline.models.load import build_classifier
from pipeline.tasks import BUILT_IN
from tests.support.tiny import save_encoder, tiny_config, tiny_tokenizer


@pytest.mark.parametrize(
    ("family", "types"), [("bert", True), ("distilbert", False), ("roberta", False)]
)
def test_made_up_rows_are_what_the_model_reads(tmp_path: Path, family: str, types: bool) -> None:
    encoder = save_encoder(tmp_path / family, family, layers=1)
    model = build_classifier(str(encoder), BUILT_IN["rte"], layers=1, seed=0, dropout=None)
    tokenizer = tiny_tokenizer(family)
    names = input_names(model, tokenizer)
    assert ("token_type_ids" in names) is types
    rows = made_up_rows(tokenizer, model.config, names, [2, 9, 5])
    assert rows.lengths_N.tolist() == [2, 9, 5]
    assert (rows.types_T is not None) is types
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for start, length in zip(rows.starts_N1.tolist(), [2, 9, 5], strict=False):
        ids = rows.ids_T[start : start + length].tolist()
        assert (ids[0], ids[-1]) == (cls, sep)
        assert not set(ids[1:-1]) & set(tokenizer.all_special_ids)
        assert max(ids) < model.config.vocab_size
    if rows.types_T is not None:
        assert rows.types_T[2:11].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    again = made_up_rows(tokenizer, model.config, names, [2, 9, 5])
    assert again.ids_T.equal(rows.ids_T)
    other = made_up_rows(tokenizer, model.config, names, [2, 9, 5], seed=1)
    assert not other.ids_T.equal(rows.ids_T)


@pytest.mark.parametrize(
    ("family", "most"), [("bert", 64), ("roberta", 65), ("distilbert", 64), ("deberta-v2", 64)]
)
def test_rows_that_a_model_has_no_embedding_for_are_refused(family: str, most: int) -> None:
    tokenizer, config = tiny_tokenizer(family), tiny_config(family, layers=1)
    config.vocab_size = len(tokenizer)
    names = input_names(AutoModel.from_config(config), tokenizer)
    fits = made_up_rows(tokenizer, tiny_config("bert", 1), names, [5, most])
    require_readable(fits, config, "student", "c.zarr, train")
    require_readable(fits.take(torch.arange(0)), config, "student", "c.zarr, train")
    long = made_up_rows(tokenizer, config, names, [most + 1, 5])
    with pytest.raises(
        CacheMismatchError, match=rf"rows of {most + 1} tokens; .* --max-length {most}\."
    ):
        require_readable(long, config, "student", "c.zarr, train")
    few = replace(fits, ids_T=fits.ids_T.masked_fill(fits.ids_T > 9, len(tokenizer)))
    size = f"token id {len(tokenizer)}; student has embeddings for {len(tokenizer)},"
    with pytest.raises(CacheMismatchError, match=size):
        require_readable(few, config, "student", "c.zarr, train")


def test_token_types_beyond_a_models_are_refused() -> None:
    tokenizer, config = tiny_tokenizer("bert"), tiny_config("bert", layers=1)
    rows = made_up_rows(tokenizer, config, ("token_type_ids",), [6])
    config.type_vocab_size = 1
    with pytest.raises(CacheMismatchError, match="token type 1; student has embeddings for 1,"):
        require_readable(rows, config, "student", "c.zarr, train")
