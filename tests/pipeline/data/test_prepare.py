"""pytest tests/pipeline/data/test_prepare.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.data import load_prepared
from pipeline.data.prepare import prepare, read_source
from pipeline.errors import BusyError, DataError, OutputExistsError
from pipeline.locks import locked
from pipeline.params import DataParams
from pipeline.tasks import BUILT_IN, Task

Write = Callable[[str, str | bytes], Path]
SST2 = BUILT_IN["sst2"]
DEMO = DataParams(train_rows=37, validation_rows=9, test_rows=5)


@pytest.fixture
def source(write: Write) -> DataParams:
    """A folder with 37 training rows and 5 validation rows of sst2."""
    rows = [f"text {n}\t{n % 3 % 2}\n" for n in range(37)]
    write("files/train.tsv", "sentence\tlabel\n" + "".join(rows))
    path = write("files/dev.tsv", "sentence\tlabel\n" + "".join(rows[:5]))
    return DataParams(source=str(path.parent))


def test_writes_parquet_and_a_record_without_paths(source: DataParams, tmp_path: Path) -> None:
    record, written = prepare(SST2, source, tmp_path / "raw/sst2")
    assert written
    assert sorted(path.name for path in (tmp_path / "raw/sst2").iterdir()) == [
        "data.json",
        "train.parquet",
        "validation.parquet",
    ]
    assert json.loads((tmp_path / "raw/sst2/data.json").read_text()) == record
    assert str(tmp_path) not in json.dumps(record)
    assert record["source"] == {"kind": "glue", "name": "files"}
    assert record["params"] == {}
    train = record["splits"]["train"]
    assert (train["rows"], train["labelled"]) == (37, 37)
    assert train["label_histogram"] == {"negative": 25, "positive": 12}
    table = pq.read_table(tmp_path / "raw/sst2/train.parquet")
    assert table["sentence"].to_pylist() == [f"text {n}" for n in range(37)]


def test_the_same_input_gives_the_same_bytes(source: DataParams, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(SST2, source, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_the_same_again_is_nothing_to_do(source: DataParams, tmp_path: Path) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    _, written = prepare(SST2, source, out, overwrite=True)
    assert not written
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}


def test_other_parameters_are_refused_by_name_and_overwritten_on_demand(
    source: DataParams, tmp_path: Path
) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    less = DataParams(source=source.source, max_train_samples=10, seed=1)
    with pytest.raises(OutputExistsError, match=r"max_train_samples: null there, 10 now;.*--overw"):
        prepare(SST2, less, out)
    assert load_prepared(out).table("train").num_rows == 37
    record, written = prepare(SST2, less, out, overwrite=True)
    assert written
    assert record["params"] == {"max_train_samples": 10, "seed": 1}
    assert load_prepared(out).table("train").num_rows == 10
    assert load_prepared(out).table("validation").num_rows == 5


def test_changed_files_are_refused(source: DataParams, tmp_path: Path, write: Write) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    write("files/dev.tsv", "sentence\tlabel\nother\t1\n")
    with pytest.raises(OutputExistsError, match="rows: 5 there, 1 now"):
        prepare(SST2, source, out)


def test_a_change_that_only_the_digest_sees_is_told_by_it(
    source: DataParams, tmp_path: Path, write: Write
) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    path = tmp_path / "files/train.tsv"
    path.write_text(path.read_text().replace("text 36", "text xx"))
    with pytest.raises(OutputExistsError, match=r"splits\.train\.digest: "):
        prepare(SST2, source, out)


def test_a_damaged_output_is_made_again(source: DataParams, tmp_path: Path) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    (out / "train.parquet").write_bytes(b"")
    assert prepare(SST2, source, out)[1]
    assert load_prepared(out).table("train").num_rows == 37


def test_a_folder_of_something_else_is_never_replaced(source: DataParams, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"no data\.json, so this command did not make it"):
        prepare(SST2, source, tmp_path / "mine", overwrite=True)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputExistsError, match="did not make it"):
        prepare(SST2, source, tmp_path / "file", overwrite=True)
    (tmp_path / "empty").mkdir()
    assert prepare(SST2, source, tmp_path / "empty")[1]


def test_a_bad_source_leaves_the_output_as_it_was(
    source: DataParams, tmp_path: Path, write: Write
) -> None:
    out = tmp_path / "sst2"
    prepare(SST2, source, out)
    write("files/train.tsv", "sentence\tlabel\nbad\t7\n")
    with pytest.raises(DataError, match="line 2"):
        prepare(SST2, source, out, overwrite=True)
    assert load_prepared(out).table("train").num_rows == 37


def test_a_failed_write_leaves_no_half_output(
    source: DataParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        prepare(SST2, source, tmp_path / "out/sst2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".sst2.lock"]


def test_two_at_once_are_refused(source: DataParams, tmp_path: Path) -> None:
    with locked(tmp_path / "sst2"), pytest.raises(BusyError, match="another process"):
        prepare(SST2, source, tmp_path / "sst2")


def test_a_draw_keeps_the_ids_of_the_whole(source: DataParams, tmp_path: Path) -> None:
    less = DataParams(source=source.source, max_train_samples=10)
    prepare(SST2, less, tmp_path / "sst2")
    for row in load_prepared(tmp_path / "sst2").table("train").to_pylist():
        assert row["sentence"] == f"text {row['example_id']}"


def test_regression_is_recorded_by_mean_and_range(
    write: Write, tmp_path: Path, stars: Task
) -> None:
    write("s/train.csv", "review,label\na,1\nb,2.5\nc,4\n")
    write("s/validation.csv", "review,label\na,3\n")
    folder = write("s/test.csv", "review\nd\n").parent
    record, _ = prepare(stars, DataParams(source=str(folder)), tmp_path / "stars")
    summaries = {name: split["label_summary"] for name, split in record["splits"].items()}
    assert summaries["train"] == {"mean": 2.5, "min": 1.0, "max": 4.0}
    assert summaries["test"] == {"mean": None, "min": None, "max": None}


def test_the_demo_needs_no_source(tmp_path: Path) -> None:
    record, _ = prepare(BUILT_IN["demo"], DEMO, tmp_path / "demo")
    assert record["source"] == {"kind": "demo", "name": "demo"}
    assert record["params"] == {
        "seed": 0,
        "train_rows": 37,
        "validation_rows": 9,
        "test_rows": 5,
    }
    prepared = load_prepared(tmp_path / "demo", "demo")
    rows = {split: prepared.table(split).num_rows for split in prepared.splits}
    assert rows == {"train": 37, "validation": 9, "test": 5}
    assert prepared.table("test")["label"].null_count == 0


def test_the_demos_default_rows_exist() -> None:
    splits = read_source(BUILT_IN["demo"], DataParams()).splits
    counts = {name: split.table.num_rows for name, split in splits.items()}
    rows = {each.name: each.default for each in fields(DataParams)}
    assert counts == {name: rows[f"{name}_rows"] for name in ("train", "validation", "test")}


def test_more_demo_rows_than_the_grammar_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(**_: int) -> None:
        raise ValueError("test: no 9 distinct pairs")

    monkeypatch.setattr("pipeline.data.demo.demo_splits", too_many)
    with pytest.raises(DataError, match=r"not that many rows \(test: no 9 .*ask for fewer"):
        read_source(BUILT_IN["demo"], DEMO)
