"""GLUE's real files against a second parse. pytest tests/pipeline/data/test_glue_files.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.data.folder import read_folder
from pipeline.tasks import BUILT_IN

ROWS = {
    "rte": ("RTE", {"train": 2490, "validation": 277, "test": 3000}),
    "mrpc": ("MRPC", {"train": 3668, "validation": 408}),
    "sst2": ("SST-2", {"train": 67349, "validation": 872}),
    "cola": ("CoLA", {"train": 8551, "validation": 1043}),
}
# columns of texts and label, by place in the line; whether the first line is a header
PLACES = {
    "rte": ((1, 2), 3, True),
    "mrpc": ((3, 4), 0, True),
    "sst2": ((0,), 1, True),
    "cola": ((3,), 1, False),
}
RTE_LABELS = {"entailment": 0, "not_entailment": 1}


def second_parse(path: Path, name: str) -> dict[str, list[Any]]:
    """Cut the bytes by hand, knowing each column's place and nothing of our readers."""
    texts, label, has_header = PLACES[name]
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")[has_header:]
    cells = [[cell.decode() for cell in line.split(b"\t")] for line in lines]
    columns: dict[str, list[Any]] = {
        column: [row[place] for row in cells]
        for column, place in zip(BUILT_IN[name].text_columns, texts, strict=True)
    }
    labels = [row[label] if label < len(row) else None for row in cells]
    columns["label"] = [each and RTE_LABELS.get(each, each) for each in labels]
    return columns


@pytest.mark.parametrize("name", ROWS)
def test_every_row_agrees_with_a_second_parse(glue_root: Path, name: str) -> None:
    folder, rows = ROWS[name]
    source = read_folder(BUILT_IN[name], glue_root / folder)
    assert source.kind == "glue"
    assert {split: each.table.num_rows for split, each in source.splits.items()} == rows
    for split, each in source.splits.items():
        file = "dev" if split == "validation" else split
        expected = second_parse(glue_root / folder / f"{file}.tsv", name)
        for column in BUILT_IN[name].text_columns:
            assert each.table[column].to_pylist() == expected[column]
        labels = [None if label is None else int(label) for label in expected["label"]]
        assert each.table["label"].to_pylist() == labels
        assert (each.skipped_rows, each.empty_texts) == (0, 0)


def test_rtes_test_split_is_unlabelled_and_the_others_are_not(glue_root: Path) -> None:
    splits = read_folder(BUILT_IN["rte"], glue_root / "RTE").splits
    assert splits["test"].table["label"].null_count == 3000
    assert splits["train"].table["label"].null_count == 0
    assert splits["validation"].table["label"].to_pylist().count(0) == 146
