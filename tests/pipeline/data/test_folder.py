"""pytest tests/pipeline/data/test_folder.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.folder import read_folder
from pipeline.errors import DataError
from pipeline.tasks import BUILT_IN, Task

Write = Callable[[str, str | bytes], Path]
STSB_HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
STSB_CELLS = "0\tmain\tMSRvid\t2012\t1\tnone\tnone"
# train, dev and test as the benchmark's site writes them, and what they say
GLUE = {
    "sst2": (
        "sentence\tlabel\nfine film \t1\n",
        "sentence\tlabel\nbad \t0\n",
        "index\tsentence\n0\tunknown\n",
        (["fine film "], 1),
    ),
    "mrpc": (
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said " a\tHe said b\n',
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tc\td\n",
        "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\te\tf\n",
        (['He said " a', "He said b"], 1),
    ),
    "stsb": (
        f"{STSB_HEADER}\tscore\n{STSB_CELLS}\tA plane.\tAn air plane.\t4.750\n",
        f"{STSB_HEADER}\tscore\n{STSB_CELLS}\tA\tB\t0.000\n",
        f"{STSB_HEADER}\n{STSB_CELLS}\tA\tB\n",
        (["A plane.", "An air plane."], 4.75),
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow?\t0\n",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tWhy\t1\n",
        "id\tquestion1\tquestion2\n0\tWho?\tWhen?\n",
        (["Why?", "How?"], 0),
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel\n0\tWhere?\tThere.\tnot_entailment\n",
        "index\tquestion\tsentence\tlabel\n0\tWhere?\tThere.\tentailment\n",
        "index\tquestion\tsentence\n0\tWhere?\tThere.\n",
        (["Where?", "There."], 1),
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n",
        "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n",
        "index\tsentence1\tsentence2\n0\tA\tB\n",
        (["A", "B"], 0),
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n",
        "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t0\n",
        "index\tsentence1\tsentence2\n0\tA\tB\n",
        (["A", "B"], 1),
    ),
    "cola": (
        "gj04\t1\t\tOur friends won't buy this.\n",
        "gj04\t0\t*\tThe box rolled",  # no final newline
        "index\tsentence\n0\tBill whistled.\n",
        (["Our friends won't buy this."], 1),
    ),
}
MNLI_HEADER = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
MNLI_CELLS = "0\t1\t1n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)\tPremise\tHypothesis"


@pytest.mark.parametrize("name", GLUE)
def test_glues_own_files_of_each_task(write: Write, name: str) -> None:
    *files, (texts, label) = GLUE[name]
    for stem, content in zip(("train", "dev", "test"), files, strict=True):
        folder = write(f"{name}/{stem}.tsv", str(content)).parent
    task = BUILT_IN[name]
    source = read_folder(task, folder)
    assert (source.kind, source.name) == ("glue", name)
    assert list(source.splits) == ["train", "validation", "test"]
    expected = {"example_id": 0, **dict(zip(task.text_columns, texts, strict=True)), "label": label}
    assert source.splits["train"].table.to_pylist() == [expected]
    assert source.splits["test"].table["label"].to_pylist() == [None]


def test_mnli_has_matched_and_mismatched_splits(write: Write) -> None:
    labelled = f"{MNLI_HEADER}\tlabel1\tgold_label\n{MNLI_CELLS}\tneutral\tcontradiction\n"
    for stem in ("train", "dev_matched", "dev_mismatched"):
        write(f"MNLI/{stem}.tsv", labelled)
    folder = write("MNLI/test_matched.tsv", f"{MNLI_HEADER}\n{MNLI_CELLS}\n").parent
    source = read_folder(BUILT_IN["mnli"], folder)
    names = ["train", "validation_matched", "validation_mismatched", "test_matched"]
    assert (source.kind, list(source.splits)) == ("glue", names)
    assert source.splits["validation_mismatched"].table.to_pylist() == [
        {"example_id": 0, "premise": "Premise", "hypothesis": "Hypothesis", "label": 2}
    ]


def test_qqp_rows_that_a_line_break_cut_are_left_out_and_counted(write: Write) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    cut = "1\t2\t3\tIs it\n\tso?\t0\n"
    write("QQP/train.tsv", f"{header}0\t1\t2\ta\tb\t1\n{cut}2\t3\t4\tc\t\t0\n")
    folder = write("QQP/dev.tsv", f"{header}0\t1\t2\ta\tb\t1\n").parent
    train = read_folder(BUILT_IN["qqp"], folder).splits["train"]
    assert (train.table.num_rows, train.skipped_rows, train.empty_texts) == (2, 2, 1)


def test_cola_with_a_header_is_read_by_it(write: Write) -> None:
    write("train.tsv", "sentence\tlabel\nFine.\t1\n")
    folder = write("dev.tsv", "label\tsentence\n0\tFine not.\n").parent
    splits = read_folder(BUILT_IN["cola"], folder).splits
    assert splits["train"].table["sentence"].to_pylist() == ["Fine."]
    assert splits["validation"].table["sentence"].to_pylist() == ["Fine not."]


def test_own_files_in_any_mix_of_formats(write: Write, tickets: Task, tmp_path: Path) -> None:
    write("train.csv", 'ticket,subject,body,queue,x\n5,"Hi, you","a\nb",other,\n9,c,d,billing,\n')
    write("dev.jsonl", '{"body": "f", "subject": "e", "queue": "technical", "ticket": 2}\n')
    test = pa.table({"ticket": [8, 3], "subject": ["g", "h"], "body": ["i", "j"]})
    pq.write_table(test, tmp_path / "test.parquet")
    source = read_folder(tickets, tmp_path)
    assert (source.kind, source.name) == ("files", tmp_path.name)
    assert source.splits["train"].table.to_pylist() == [
        {"example_id": 5, "subject": "Hi, you", "body": "a\nb", "label": 2},
        {"example_id": 9, "subject": "c", "body": "d", "label": 0},
    ]
    assert source.splits["validation"].table["label"].to_pylist() == [1]
    assert source.splits["test"].table.to_pylist() == [
        {"example_id": 8, "subject": "g", "body": "i", "label": None},
        {"example_id": 3, "subject": "h", "body": "j", "label": None},
    ]


def test_a_glue_task_in_the_hubs_columns(tmp_path: Path) -> None:
    for split, label in (("train", [1, 0]), ("validation", [0, 1]), ("test", [-1, -1])):
        table = pa.table(
            {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": label, "idx": [0, 1]}
        )
        pq.write_table(table, tmp_path / f"{split}.parquet")
    source = read_folder(BUILT_IN["mrpc"], tmp_path)
    assert source.kind == "files"
    assert source.splits["train"].table["label"].to_pylist() == [1, 0]
    assert source.splits["test"].table["label"].to_pylist() == [None, None]


def test_parquet_rows_are_counted_from_one(tmp_path: Path, stars: Task) -> None:
    for split in ("train", "validation"):
        labels = [4.5, None, 1.0] if split == "train" else [1.0, 2.0, 3.0]
        table = pa.table({"review": ["a", "b", "c"], "label": labels})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(DataError, match=r"train\.parquet, row 2: label: .* found none"):
        read_folder(stars, tmp_path)


def test_what_is_no_parquet_is_named(write: Write, stars: Task) -> None:
    write("train.parquet", b"PAR1 not at all")
    folder = write("validation.csv", "review,label\na,1\n").parent
    with pytest.raises(DataError, match=r"train\.parquet: not readable as Parquet"):
        read_folder(stars, folder)


def test_a_missing_folder_split_or_inner_folder_is_explained(write: Write) -> None:
    task = BUILT_IN["sst2"]
    with pytest.raises(DataError, match="nowhere: no such folder; --source is `hub` or"):
        read_folder(task, Path("nowhere"))
    folder = write("SST-2/train.tsv", GLUE["sst2"][0]).parent
    expected = r"no file for `validation` .* expected validation or dev .* Found: train\.tsv\.$"
    with pytest.raises(DataError, match=expected):
        read_folder(task, folder)
    with pytest.raises(DataError, match=rf"Did you mean --source {folder}\?"):
        read_folder(task, folder.parent)


def test_two_files_for_one_split_are_refused(write: Write, stars: Task) -> None:
    write("train.csv", "review,label\na,1\n")
    write("dev.csv", "review,label\na,1\n")
    folder = write("validation.jsonl", "{}").parent
    message = r"validation\.jsonl, dev\.csv could each be `validation`"
    with pytest.raises(DataError, match=message):
        read_folder(stars, folder)
