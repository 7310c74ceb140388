"""pytest tests/pipeline/data/test_unlabelled.py - training rows without labels, end to end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from pipeline.caching.build import build_cache
from pipeline.data import load_prepared
from pipeline.data.prepare import prepare
from pipeline.data.unlabelled import _twice
from pipeline.errors import DataError, ParamsError, TrainingError
from pipeline.params import DataParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import load_rows
from pipeline.student.recipe import settle
from pipeline.tasks import BUILT_IN, Task
from pipeline.training.loop import usable_rows
from stages.cache import cli as cache_cli
from stages.data import cli
from tests.pipeline.strategies.matched import fit
from tests.support.runs import terms_for
from tests.support.tiny import CACHE, STUDENT, World

TASK = BUILT_IN["rte"]


def more_rows(folder: Path) -> Path:
    """A jsonl file without labels, and one with labels that must not be used."""
    folder.mkdir(exist_ok=True)
    rows = [{"sentence1": f"w{n} sun", "sentence2": "w1"} for n in range(7)]
    (folder / "more.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    lines = ["sentence1,sentence2,label", "w5 rain,w2,entailment", "w6 sun,w3,not_entailment"]
    (folder / "more.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_rows_of_files_come_after_the_labelled_ones_without_labels(
    world: World, tmp_path: Path
) -> None:
    folder = more_rows(tmp_path / "more")
    arguments = [
        "prepare", "--task", "rte", "--source", str(world.source), "--out", str(tmp_path / "raw"),
        "--unlabelled", f"{folder / 'more.jsonl'}, {folder / 'more.csv'}",
    ]  # fmt: skip
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    table = load_prepared(tmp_path / "raw", "rte").table("train")
    assert table.num_rows == 150 + 7 + 2
    assert table["label"].null_count == 9
    assert table["label"][:150].null_count == 0
    assert table["sentence1"][150].as_py() == "w0 sun"
    assert table["sentence1"][158].as_py() == "w6 sun"
    assert table["example_id"].to_pylist()[148:] == list(range(148, 159))
    assert "159       150" in found.stdout


def test_all_labels_but_a_draw_are_hidden(world: World, tmp_path: Path) -> None:
    params = DataParams(source=str(world.source), max_labelled_samples=40, seed=3)
    record, _ = prepare(TASK, params, tmp_path / "raw")
    assert record["splits"]["train"] | {"digest": ""} == record["splits"]["train"] | {
        "digest": "", "rows": 150, "labelled": 40,
    }  # fmt: skip
    assert record["params"] == {"max_labelled_samples": 40, "seed": 3}
    kept = pq.read_table(tmp_path / "raw" / "train.parquet")["label"].to_pylist()
    truth = world.prepared.table("train")["label"].to_pylist()
    assert all(label in (None, true) for label, true in zip(kept, truth, strict=True))
    assert [place for place, label in enumerate(kept) if label is not None][:3] != [0, 1, 2]
    prepare(TASK, replace(params, seed=4), tmp_path / "other")
    other = pq.read_table(tmp_path / "other" / "train.parquet")["label"].to_pylist()
    assert other != kept


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"gone\.csv: no such file \(--unlabelled\)"),
        ("rows.txt", "a\n", r"rows\.txt: --unlabelled takes \.csv, \.tsv, \.jsonl, \.parquet"),
        ("bad.csv", "sentence1,other\na,b\n", "no column `sentence2`"),
        ("empty.csv", "sentence1,sentence2\n", "no rows"),
    ],
)
def test_bad_files_are_named(
    world: World, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    params = DataParams(source=str(world.source), unlabelled=str(tmp_path / name))
    with pytest.raises(DataError, match=message):
        prepare(TASK, params, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    task = Task(
        name="own", text_columns=("text",), label_names=("no", "yes"), id_column="key",
    )  # fmt: skip
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("key,text,label\n4,a,no\n9,b,yes\n")
    (tmp_path / "more.csv").write_text("key,text\n5,c\n9,d\n")
    params = DataParams(source=str(tmp_path), unlabelled=str(tmp_path / "more.csv"))
    with pytest.raises(DataError, match="id 9 is there twice"):
        prepare(task, params, tmp_path / "raw")
    (tmp_path / "more.csv").write_text("key,text\n5,c\n")
    prepare(task, params, tmp_path / "raw")
    ids = pq.read_table(tmp_path / "raw" / "train.parquet")["example_id"].to_pylist()
    assert ids == [4, 9, 5]


def test_rows_come_after_those_of_a_draw_whatever_their_places(
    world: World, tmp_path: Path
) -> None:
    folder = more_rows(tmp_path / "more")
    files = ",".join(str(folder / name) for name in ("more.jsonl", "more.csv"))
    params = DataParams(source=str(world.source), max_train_samples=40, unlabelled=files)
    prepare(TASK, params, tmp_path / "raw")
    table = pq.read_table(tmp_path / "raw" / "train.parquet")
    ids = table["example_id"].to_pylist()
    drawn, more = ids[:40], ids[40:]
    assert max(drawn) > 49, "the draw keeps places beyond the number of its rows"
    assert more == list(range(max(drawn) + 1, max(drawn) + 10))
    assert table["sentence1"][40].as_py() == "w0 sun"


def test_a_repeated_id_is_found_in_time_that_grows_with_the_rows(tmp_path: Path) -> None:
    """A million rows: comparing each with all before it would take days."""
    assert _twice([*range(1_000_000), 999_999, 3]) == 999_999
    assert _twice([4, 9, 5]) is None


@pytest.fixture(scope="module")
def partly(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of 150 training rows, 40 of them labelled."""
    folder = tmp_path_factory.mktemp("partly")
    params = DataParams(source=str(world.source), max_labelled_samples=40)
    prepare(TASK, params, folder / "raw")
    build_cache(
        prepared=load_prepared(folder / "raw", "rte"), teacher_name=str(world.teacher),
        out=folder / "c.zarr", params=CACHE,
    )  # fmt: skip
    return folder / "c.zarr"


@pytest.mark.parametrize(("strategy", "used"), [("finetune", 40), ("kd", 150)])
def test_the_rows_of_a_rate_are_those_that_were_used(
    world: World, partly: Path, tmp_path: Path, strategy: str, used: int
) -> None:
    record = fit(world, tmp_path / "s", cache=partly, strategy=strategy)
    assert (record["train_rows"], record["labelled_rows"]) == (150, 40)
    assert record["rows_per_second"] == pytest.approx(used * STUDENT.epochs / record["seconds"])


def test_a_strategy_is_told_how_many_rows_have_a_label(world: World, partly: Path) -> None:
    manifest = TeacherCache.open(partly).manifest
    params = replace(STUDENT, init=str(world.encoder), strategy="contrastive")
    assert settle(manifest, params, "c").strategy.shapes.labelled_rows == 40
    train = replace(manifest.splits["train"], labelled_rows=0)
    none = replace(manifest, splits={**manifest.splits, "train": train})
    with pytest.raises(ParamsError, match="the cache has no labelled one"):
        settle(none, params, "c")


def test_the_counts_stand_in_the_description_of_a_cache(partly: Path) -> None:
    found = CliRunner().invoke(cache_cli, ["info", str(partly)])
    assert re.search(r"^train +150 +40 ", found.stdout, re.MULTILINE)
    as_json = CliRunner().invoke(cache_cli, ["info", str(partly), "--json"])
    assert json.loads(as_json.stdout)["derived"]["splits"]["train"]["unlabelled_rows"] == 110


def test_labels_alone_learn_from_labelled_rows_and_distillation_from_all(partly: Path) -> None:
    cache = TeacherCache.open(partly)
    assert cache.split("train").labelled_rows == 40
    rows = load_rows(cache, "train", torch.device("cpu"))
    plain = terms_for(None, replace(STUDENT, strategy="finetune"), None)
    usable = usable_rows(rows, plain)
    assert len(usable) == 40
    assert (rows.labels_N[usable] >= 0).all()
    distilling = terms_for(None, replace(STUDENT, strategy="kd"), lambda *_: None)  # type: ignore[arg-type]
    assert usable_rows(rows, distilling).tolist() == list(range(150))
    rows.labels_N.fill_(-100)
    with pytest.raises(TrainingError, match="No training row has a label"):
        usable_rows(rows, plain)
