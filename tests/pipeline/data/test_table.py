"""pytest tests/pipeline/data/test_table.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.raw import Raw
from pipeline.data.table import digest_table, draw, schema_of, to_split, wanted_columns
from pipeline.errors import DataError
from pipeline.tasks import BUILT_IN, Task

COLA = BUILT_IN["cola"]


def cola(*sentences: object, labels: list[object] | None = None) -> Raw:
    columns: dict[str, list[Any]] = {
        "sentence": list(sentences),
        "label": labels or [0] * len(sentences),
    }
    return Raw("train.tsv", columns, range(2, len(sentences) + 2))


def ticket_rows(ids: list[Any]) -> Raw:
    texts = [f"text {place}" for place in range(len(ids))]
    columns: dict[str, list[Any]] = {
        "subject": texts,
        "body": texts,
        "label": [0] * len(ids),
        "example_id": ids,
    }
    return Raw("t.csv", columns, range(2, len(ids) + 2))


def test_columns_have_the_tasks_names_and_fixed_types(tickets: Task) -> None:
    split = to_split(ticket_rows(["30", 4, "-7"]), tickets, "train")
    assert split.table.schema.equals(schema_of(tickets))
    assert split.table.column_names == ["example_id", "subject", "body", "label"]
    assert split.table["example_id"].to_pylist() == [30, 4, -7]
    assert (split.skipped_rows, split.empty_texts) == (0, 0)


def test_without_an_id_column_the_id_is_the_place() -> None:
    split = to_split(cola("a", "b", labels=[1, 0]), COLA, "train")
    assert split.table.to_pylist() == [
        {"example_id": 0, "sentence": "a", "label": 1},
        {"example_id": 1, "sentence": "b", "label": 0},
    ]


def test_regression_labels_are_float64(stars: Task) -> None:
    raw = Raw("test.csv", {"review": ["a", "b"], "label": ["2", ""]}, [2, 3])
    label = to_split(raw, stars, "test").table["label"]
    assert (label.type, label.to_pylist()) == (pa.float64(), [2.0, None])


@pytest.mark.parametrize("empty", ["", "   ", "\t\u00a0"])
def test_an_empty_text_is_named_but_published_ones_are_counted(empty: str) -> None:
    with pytest.raises(DataError, match=r"train\.tsv, line 3: `sentence`: expected text, found no"):
        to_split(cola("a", empty), COLA, "train")
    split = to_split(cola("a", empty), COLA, "train", as_published=True)
    assert (split.empty_texts, split.table["sentence"][1].as_py()) == (1, empty)


@pytest.mark.parametrize("value", [None, 3, ["a"], "\ud800"])
def test_a_value_that_is_no_text_is_named(value: object) -> None:
    with pytest.raises(DataError, match="line 3: `sentence`: expected text, found"):
        to_split(cola("a", value), COLA, "train", as_published=True)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"train\.tsv: no rows"):
        to_split(cola(), COLA, "train")


@pytest.mark.parametrize("value", [None, "", "x7", "1.0", 1.5, True, 2**63])
def test_an_id_that_is_no_whole_number_is_named(tickets: Task, value: object) -> None:
    message = "line 3: id column `ticket`: expected a whole number, found"
    with pytest.raises(DataError, match=message):
        to_split(ticket_rows([1, value]), tickets, "train")


def test_an_id_that_is_there_twice_names_both_lines(tickets: Task) -> None:
    with pytest.raises(DataError, match="line 5: id column `ticket`: 7 is also the id of line 3"):
        to_split(ticket_rows([1, "7", 2, 7]), tickets, "train")


def test_only_test_splits_may_lack_labels() -> None:
    assert "label" in wanted_columns(COLA, "test").optional
    assert "label" in wanted_columns(BUILT_IN["mnli"], "test_mismatched").optional
    assert not wanted_columns(COLA, "train").optional
    assert not wanted_columns(BUILT_IN["mnli"], "validation_matched").optional


def test_a_draw_is_seeded_uniform_and_in_file_order() -> None:
    table = to_split(cola(*(f"s{n}" for n in range(117))), COLA, "train").table
    ids = draw(table, 20, seed=3)["example_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert len(ids) == 20
    assert ids == draw(table, 20, seed=3)["example_id"].to_pylist()
    assert ids != draw(table, 20, seed=4)["example_id"].to_pylist()
    assert draw(table, None, 0) is table
    assert draw(table, 117, 0) is table


def test_every_row_is_drawn_about_as_often() -> None:
    table = to_split(cola(*(f"s{n}" for n in range(30))), COLA, "train").table
    counts = np.zeros(30)
    for seed in range(600):
        counts[draw(table, 10, seed)["example_id"].to_numpy()] += 1
    # binomial with mean 200 and standard deviation 11.5; five of them never happen by chance
    assert abs(counts - 200).max() < 58


def sentences(*texts: str, ids: list[int] | None = None, labels: list[Any] | None = None) -> Any:
    columns = [ids or list(range(len(texts))), list(texts), labels or [0] * len(texts)]
    schema = schema_of(COLA)
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )


def test_a_digest_is_of_values_not_of_chunks_slices_or_files(tmp_path: Any) -> None:
    table = sentences("a", "bc", "", "d", "ä")
    chunked = pa.concat_tables([table.slice(0, 2), table.slice(2, 1), table.slice(3)])
    sliced = pa.concat_tables([sentences("x"), table]).slice(1)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2, compression="snappy")
    digests = {
        digest_table(each)
        for each in (table, chunked, sliced, pq.read_table(tmp_path / "t.parquet"))
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [
        sentences("ab", "c"),
        sentences("a", "cb"),
        sentences("a", "bc", ids=[1, 0]),
        sentences("a", "bc", labels=[0, 1]),
        sentences("a", "bc", labels=[0, None]),
        sentences("a", "bc", ""),
        sentences("a", "bc").rename_columns(["example_id", "text", "label"]),
    ],
)
def test_any_other_value_is_another_digest(other: Any) -> None:
    assert digest_table(other) != digest_table(sentences("a", "bc"))
