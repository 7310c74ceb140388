"""pytest tests/pipeline/data/test_parquet.py."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.parquet import read_parquet
from pipeline.data.prepare import prepare
from pipeline.data.raw import Wanted
from pipeline.errors import DataError
from pipeline.params import DataParams
from pipeline.tasks import Task
from tests.pipeline.data.undecoded import as_texts

OWN = Task(name="own", text_columns=("text",), label_names=("no", "yes"))
LATIN = [b"fine", "caf\u00e9".encode(), "caf\u00e9".encode("latin-1")]
WANTED = Wanted({"text": ("text",)})


@pytest.mark.parametrize("encoded", [False, True])
def test_a_text_that_is_not_utf8_is_named_by_file_and_row(tmp_path: Path, encoded: bool) -> None:
    texts = as_texts(LATIN)
    table = pa.table({"text": texts.dictionary_encode() if encoded else texts, "label": [0, 1, 0]})
    for split in ("train", "validation"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(DataError) as caught:
        prepare(OWN, DataParams(source=str(tmp_path)), tmp_path / "raw")
    assert str(caught.value) == (
        f"{tmp_path / 'train.parquet'}, row 3: `text`: not UTF-8 (byte 0xe9 at offset 3 of the "
        "text). Write the column as UTF-8."
    )


def test_a_column_that_is_not_wanted_may_hold_anything(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", None], "other": as_texts(LATIN)})
    pq.write_table(table, tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet", WANTED).columns == {"text": ["a", "b", None]}


def test_names_of_columns_that_are_not_utf8_are_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"text", b"te\xe9t"))
    with pytest.raises(DataError, match=r"x\.parquet: not readable as Parquet \('utf-8' codec"):
        read_parquet(path, WANTED)
