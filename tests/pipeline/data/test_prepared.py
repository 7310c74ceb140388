"""pytest tests/pipeline/data/test_prepared.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import load_prepared
from pipeline.data.prepare import prepare
from pipeline.errors import DataError
from pipeline.params import DataParams
from pipeline.tasks import BUILT_IN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared demo of 37 training rows."""
    params = DataParams(train_rows=37, validation_rows=9, test_rows=5)
    prepare(BUILT_IN["demo"], params, tmp_path / "demo")
    return tmp_path / "demo"


def change_record(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**record, **changes}))


def test_reads_back_what_was_written(folder: Path) -> None:
    prepared = load_prepared(folder, "demo")
    assert prepared.task == BUILT_IN["demo"]
    assert prepared.splits == ("train", "validation", "test")
    assert prepared.digest == prepared.record["digest"]
    names = ["example_id", "sentence1", "sentence2", "label"]
    assert prepared.table("validation").column_names == names


def test_a_missing_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared data; run `pkd-data prepare --task rte`"):
        load_prepared(tmp_path / "raw", "rte")
    with pytest.raises(DataError, match="run `pkd-data prepare --task mrpc`"):
        load_prepared(tmp_path / "mrpc")


def test_a_folder_without_a_record_is_no_prepared_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data\.json"):
        load_prepared(tmp_path)


def test_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="expected data of task `rte`, found `demo`"):
        load_prepared(folder, "rte")


def test_an_unknown_split_lists_the_known(folder: Path) -> None:
    with pytest.raises(DataError, match="no split `dev`; there are train, validation, test"):
        load_prepared(folder).table("dev")


def test_changed_rows_are_refused(folder: Path) -> None:
    path = folder / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match=r"train\.parquet: its rows differ .*--overwrite"):
        load_prepared(folder).table("train")
    pq.write_table(table.take(pa.array(range(36, -1, -1))), path)
    with pytest.raises(DataError, match="its rows differ"):
        load_prepared(folder).table("train")
    pq.write_table(table, path, compression="none", row_group_size=5)  # the same values
    assert load_prepared(folder).table("train").num_rows == 37


def test_other_columns_and_missing_or_broken_files_are_refused(folder: Path) -> None:
    path = folder / "train.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)
    with pytest.raises(DataError, match=r"expected example_id int64, .*label int64; found example"):
        load_prepared(folder).table("train")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"train\.parquet: not readable as Parquet"):
        load_prepared(folder).table("train")
    path.unlink()
    with pytest.raises(DataError, match=r"train\.parquet: no such file, but data\.json names it"):
        load_prepared(folder).table("train")


def test_an_unknown_format_is_refused(folder: Path) -> None:
    change_record(folder, format=2)
    with pytest.raises(DataError, match="format 2, but this version reads format 1"):
        load_prepared(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": None},
        {"task": {"name": "demo"}},
        {"task": {"name": "demo", "text_columns": ["a"], "colour": "red"}},
        {"splits": ["train"]},
        {"splits": {"train": {}}},
        {"splits": None},
    ],
)
def test_a_malformed_record_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    change_record(folder, **changes)
    with pytest.raises(DataError, match=r"data\.json: malformed .*pkd-data prepare --task demo"):
        load_prepared(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"'])
def test_what_is_no_record_is_refused(folder: Path, content: str) -> None:
    (folder / "data.json").write_text(content)
    with pytest.raises(DataError, match=r"data\.json: "):
        load_prepared(folder)


def test_an_edited_record_is_refused(folder: Path) -> None:
    record = json.loads((folder / "data.json").read_text())
    names = {**record["task"], "label_names": ["not_entailment", "entailment"]}
    change_record(folder, task=names)
    with pytest.raises(DataError, match="its digest does not fit its content"):
        load_prepared(folder)
    change_record(folder, task=record["task"], splits={"train": record["splits"]["train"]})
    with pytest.raises(DataError, match="its digest does not fit its content"):
        load_prepared(folder)


def test_metrics_are_no_part_of_the_datas_identity(folder: Path) -> None:
    task = json.loads((folder / "data.json").read_text())["task"]
    before = load_prepared(folder).digest
    change_record(folder, task={**task, "metrics": ["f1"]})
    assert load_prepared(folder).digest == before
