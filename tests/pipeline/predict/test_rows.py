"""pytest tests/pipeline/predict/test_rows.py"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.folder import READERS
from pipeline.data.glue import COLA_HEADER
from pipeline.errors import DataError
from pipeline.predict.rows import FORMATS, Bad, Columns, Row, kept_types, read_rows
from tests.pipeline.data.undecoded import as_texts

PAIR = Columns(texts=(("first",), ("second", "#2")), kept=("id",))


def write_csv(rows: list[dict[str, Any]], separator: str = ",") -> bytes:
    lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def write_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "csv": write_csv,
    "tsv": lambda rows: write_csv(rows, "\t"),
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "parquet": write_parquet,
}
ROWS = [{"second": f"b {n}", "other": n, "first": f"a é {n}", "id": f"i{n}"} for n in range(2500)]


def read(content: bytes, kind: str, columns: Columns = PAIR) -> list[Row | Bad]:
    return list(read_rows(io.BytesIO(content), f"x.{kind}", kind, columns))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_rows_that_preparing_data_reads(kind: str, tmp_path: Path) -> None:
    """2,500 rows: three batches of a Parquet file."""
    content = WRITERS[kind](ROWS)
    found = read(content, kind)
    assert found == [
        Row(n, (str(row["first"]), str(row["second"])), (row["id"],)) for n, row in enumerate(ROWS)
    ]
    (tmp_path / f"x.{kind}").write_bytes(content)
    raw = READERS[f".{kind}"](tmp_path / f"x.{kind}", PAIR.wanted())
    assert [row.texts[0] for row in found if isinstance(row, Row)] == raw.columns["text 0"]


BAD_LINES = {
    "csv": (
        'id,first,second\n1,a,b\n2,a\n\n3,"a\nb",c\n4, ,b\n5,a,\xff\n6,"a" b,c\n7,a,b\n',
        {1: "line 3: expected 3 columns (id, first, second), found 2. A text with a comma",
         3: "line 7: `first`: expected text, found none.",
         4: "line 8: not UTF-8 (byte 0xff",
         5: "line 9: not valid CSV"},
    ),
    "tsv": (
        'id\tfirst\tsecond\n1\ta\tb\n2\ta\tb\tc\n\n3\t"a\tb"\n4\ta\t\n5\t\xff\tb\n6\ta\tb\n',
        {1: "line 3: expected 3 columns (id, first, second), found 4. A tab or line break",
         3: "line 6: `second`: expected text, found none.",
         4: "line 7: not UTF-8 (byte 0xff"},
    ),
    "jsonl": (
        ('{"first": "a", "#2": "b"}\n{"first": "a", "seconds": "b"}\n\n[1]\n{"first": "a",\n'
        '{"first": 3, "second": "b"}\n{"first": null, "second": "b"}\n'
        '{"first": "\\ud800", "second": "b"}\n{"first": "\xff"}\n{"first": "a", "second": "b"}\n'),
        {1: "line 2: no column `second` or `#2`. Did you mean `seconds`?",
         2: "line 4: expected a JSON object, found [1]",
         3: "line 5: not valid JSON (",
         4: "line 6: `first`: expected text, found 3.",
         5: "line 7: `first`: expected text, found nothing.",
         6: r"line 8: `first`: expected text, found '\ud800'.",
         7: "line 9: not UTF-8 (byte 0xff"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_broken_row_is_told_by_its_line_and_the_next_ones_are_read(kind: str) -> None:
    text, problems = BAD_LINES[kind]
    found = read(text.encode("latin-1"), kind)
    told = {place: row.message for place, row in enumerate(found) if isinstance(row, Bad)}
    assert told.keys() == problems.keys()
    for place, problem in problems.items():
        assert told[place].startswith(f"x.{kind}, {problem}"), told[place]
    last = found[-1]
    assert isinstance(last, Row)
    assert last.index == len(found) - 1  # broken rows count
    assert last.texts == ("a", "b")


def test_broken_rows_of_parquet() -> None:
    table = pa.table({"first": ["a", None, " "], "second": ["b", "b", "b"], "id": [7, 8, 9]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert read(sink.getvalue(), "parquet") == [
        Row(0, ("a", "b"), (7,)),
        Bad("x.parquet, row 2: `first`: expected text, found nothing."),
        Bad("x.parquet, row 3: `first`: expected text, found none."),
    ]
    assert kept_types(sink, "x", "parquet", PAIR) == [pa.int64()]
    assert kept_types(sink, "x", "csv", PAIR) == [pa.string()]


def test_a_text_of_parquet_that_is_not_utf8_is_a_broken_row() -> None:
    """In a column of texts, and in one that is kept; in the second batch of the file."""
    rows = [b"a"] * 1500
    texts, ids = as_texts([*rows[:-1], b"caf\xe9"]), as_texts([*rows[:-3], b"\xff", b"a", b"a"])
    sink = io.BytesIO()
    pq.write_table(pa.table({"first": texts, "second": ["b"] * 1500, "id": ids}), sink)
    found = read(sink.getvalue(), "parquet")
    assert len(found) == 1500
    assert found[-3:] == [
        Bad(
            "x.parquet, row 1498: `id`: not UTF-8 (byte 0xff at offset 0 of the text). "
            "Write the column as UTF-8."
        ),
        Row(1498, ("a", "b"), ("a",)),
        Bad(
            "x.parquet, row 1500: `first`: not UTF-8 (byte 0xe9 at offset 3 of the text). "
            "Write the column as UTF-8."
        ),
    ]
    assert all(isinstance(row, Row) for row in found[:-3])


def test_names_of_columns_of_parquet_that_are_not_utf8() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"first": ["a"], "second": ["b"]}), sink, store_schema=False)
    content = sink.getvalue().replace(b"first", b"fi\xffst")
    for reading in (
        lambda: read(content, "parquet"),
        lambda: kept_types(io.BytesIO(content), "x.parquet", "parquet", PAIR),
    ):
        with pytest.raises(DataError, match=r"x\.parquet: not readable as Parquet \('utf-8'"):
            reading()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("csv", b"", "x.csv: expected a line of column names first, found nothing."),
        ("csv", b"id,frst,second\n", "x.csv: no column `first`. Did you mean `frst`?"),
        ("csv", b"id\tfirst\tsecond\n", "The line was not split: .csv is separated by commas"),
        ("tsv", b"first\tsecond\n1\t2\n", "x.tsv: no column `id`"),
        ("tsv", b"fi\xffrst\n1\n", "x.tsv, line 1: not UTF-8"),
        ("csv", b'"id,first\n1,2\n', "x.csv, line 1: not valid CSV"),
        ("parquet", b"PAR1 and no more", "x.parquet: not readable as Parquet"),
        ("parquet", WRITERS["parquet"]([{"first": "a"}]), "x.parquet: no column `second` or `#2`"),
    ],
)
def test_a_file_that_is_broken_as_a_whole(kind: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(content, kind)
    assert message in str(caught.value)


def test_damage_in_the_middle_of_parquet_is_an_error() -> None:
    content = bytearray(WRITERS["parquet"](ROWS))
    content[40:400] = b"\x00" * 360
    with pytest.raises(DataError, match="not readable as Parquet"):
        read(bytes(content), "parquet")


def test_colas_files_without_column_names() -> None:
    columns = Columns(texts=(("sentence",),), header=COLA_HEADER)
    row = "gj04\t1\t\tThe sailors rode.\n"
    for content in (row * 2, "source\tlabel\torig_judgement\tsentence\n" + row * 2):
        found = read(content.encode(), "tsv", columns)
        assert found == [Row(place, ("The sailors rode.",), ()) for place in range(2)]
    test_file = read(b"index\tsentence\n0\tThe sailors rode.\n", "tsv", columns)
    assert test_file == [Row(0, ("The sailors rode.",), ())]


def test_a_long_message_is_cut() -> None:
    (bad,) = read(json.dumps({"first": ["long"] * 1000, "second": "b"}).encode(), "jsonl")
    assert isinstance(bad, Bad)
    assert len(bad.message) < 500


def test_an_empty_text_is_one_where_published_data_may_have_it() -> None:
    columns = Columns(texts=(("first",),), may_be_empty=True)
    assert read(b"id,first\n1,\n", "csv", columns) == [Row(0, ("",), ())]
