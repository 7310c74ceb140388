"""pytest tests/pipeline/predict/test_sink.py"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError, OutputExistsError
from pipeline.predict import sink
from pipeline.predict.layout import Column, Predictions, Tally
from pipeline.predict.rows import Row
from pipeline.predict.sink import check_output, open_file, text_writer

NAMES = ("index", "kept", "p")
NUMBERS = np.random.default_rng(0).random(500, np.float32) * np.float32(1e-3)
ODD = [None, "a,b", 'say "hi"', "line\nbreak", "é", 3, 0.5, {"a": [1]}, "\ud800"]
ODD_TEXTS = ["", "a,b", 'say "hi"', "line\nbreak", "é", "3", "0.5", '{"a": [1]}', "\\ud800"]


def columns(kept: list[Any]) -> list[Column]:
    rows = len(NUMBERS)
    return [range(rows), (kept * rows)[:rows], NUMBERS]


def test_csv_reads_back_to_the_same_numbers_and_texts() -> None:
    file = io.BytesIO()
    text_writer(file, "csv", NAMES)(columns(ODD))
    header, *rows = csv.reader(io.StringIO(file.getvalue().decode(), newline=""))
    assert tuple(header) == NAMES
    assert [row[1] for row in rows[: len(ODD)]] == ODD_TEXTS
    np.testing.assert_array_equal(np.array([row[2] for row in rows], np.float32), NUMBERS)
    assert max(len(row[2]) for row in rows) <= 15  # no digits that a float32 does not have


def test_jsonl_reads_back_to_the_same_values() -> None:
    file = io.BytesIO()
    text_writer(file, "jsonl", NAMES)(columns(ODD))
    rows = [json.loads(line) for line in file.getvalue().decode().splitlines()]
    assert [row["kept"] for row in rows[: len(ODD)]] == ODD
    np.testing.assert_array_equal(np.array([row["p"] for row in rows], np.float32), NUMBERS)


def test_tsv_is_written_without_quotes_and_refuses_what_would_need_them() -> None:
    file = io.BytesIO()
    writer = text_writer(file, "tsv", NAMES)
    writer([[0], ['say "hi"'], np.array([0.1], np.float32)])
    assert file.getvalue() == b'index\tkept\tp\n0\tsay "hi"\t0.1\n'
    with pytest.raises(DataError, match="column `kept`, row 0: a tab or line break"):
        writer([[0], ["a\tb"], np.array([0.1], np.float32)])


def test_parquet_keeps_types_nulls_and_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "ROW_GROUP_BYTES", 12_000)
    types = [pa.int64(), pa.string(), pa.float32()]
    with open_file(tmp_path / "a.parquet", "parquet", NAMES, types) as write:
        for _ in range(3):
            write(columns(ODD))
    table = pq.read_table(tmp_path / "a.parquet")
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "float"]
    np.testing.assert_array_equal(table["p"].to_numpy(), np.tile(NUMBERS, 3))
    kept = [None, *ODD_TEXTS[1:]]
    assert table["kept"].to_pylist()[: len(ODD)] == kept
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 2


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_failure_leaves_the_old_file_and_no_other(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text("old")
    types = [pa.int64(), pa.string(), pa.float32()]

    def fail() -> None:
        with open_file(path, kind, NAMES, types) as write:
            write(columns(["x"]))
            assert len(list(tmp_path.iterdir())) == 2
            raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    with pytest.raises(OutputExistsError, match="add --overwrite"):
        check_output(tmp_path / "a.csv", overwrite=False, source=None)
    with pytest.raises(DataError, match="is the input"):
        check_output(tmp_path / "link.csv", overwrite=True, source=tmp_path / "a.csv")
    with pytest.raises(OutputExistsError, match="no regular file"):
        check_output(Path("/dev/null"), overwrite=True, source=None)
    # a link stays one: what it points to is replaced
    found = check_output(tmp_path / "link.csv", overwrite=True, source=None)
    assert found == (tmp_path / "a.csv").resolve()


def test_the_columns_of_predictions() -> None:
    layout = Predictions(("no", "yes"), ("id",))
    assert layout.names == ("index", "id", "prediction", "p_no", "p_yes")
    rows = [Row(4, ("t",), ("i4",)), Row(6, ("u",), ("i6",))]
    found = layout.columns(rows, np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
    assert [list(each) for each in found] == [
        [4, 6], ["i4", "i6"], ["yes", "no"], [0.25, 0.5], [0.75, 0.5],
    ]  # fmt: skip
    assert Predictions((), ()).names == ("index", "score")
    with pytest.raises(DataError, match="--keep p_yes: the output has that column already"):
        Predictions(("no", "yes"), ("p_yes",))


def test_a_tally_counts_labels_or_spans_scores() -> None:
    labels, scores = Tally(("no", "yes")), Tally(())
    for outputs in ([[0.9, 0.1], [0.2, 0.8]], [[0.3, 0.7]]):
        labels.add(np.array(outputs, np.float32))
        scores.add(np.array(outputs, np.float32)[:, 1:])
    assert labels.summary() == {"no": 1, "yes": 2}
    assert scores.summary() == pytest.approx({"mean": 1.6 / 3, "min": 0.1, "max": 0.8})
    assert Tally(()).summary() == {}
