"""pytest tests/pipeline/test_inputs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.inputs import input_names, made_up_rows
from pipeline.models import build_classifier
from pipeline.tasks import BUILT_IN
from tests.support.tiny import save_encoder, tiny_tokenizer


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
