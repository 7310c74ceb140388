"""pytest tests/pipeline/models/test_sizes.py - by hand. H = 16, 32 inside, 67 words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.models.load import load_classifier
from pipeline.models.sizes import Sizes, sizes_of
from tests.support.exports import save_student

BLOCK = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 2 * 16
HEAD = 2 * 16 + 2
EMBEDDINGS = {"bert": (67 + 64 + 2 + 2) * 16, "distilbert": (67 + 64 + 2) * 16}
BEFORE_HEAD = 16 * 16 + 16  # BERT's pooler, DistilBERT's pre_classifier


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_parameters_by_part(tmp_path: Path, family: str) -> None:
    folder = save_student(tmp_path / family, family)
    sizes = sizes_of(load_classifier(str(folder)), folder)
    assert sizes == Sizes(
        layers=1, passes=1, embeddings=EMBEDDINGS[family], blocks=BLOCK, head=BEFORE_HEAD + HEAD
    )
    assert sizes.total == sum(p.numel() for p in load_classifier(str(folder)).parameters())
    assert Sizes.from_dict(sizes.to_dict()) == sizes


def test_shared_blocks_count_once(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "sps", share="sps")
    model = load_classifier(str(folder))
    sizes = sizes_of(model, folder)
    assert (sizes.layers, sizes.passes, sizes.blocks) == (1, 2, BLOCK)
    assert sum(p.numel() for p in model.parameters()) == sizes.total + BLOCK
