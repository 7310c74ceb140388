"""pytest tests/pipeline/predict/test_records.py"""

from __future__ import annotations

import csv
import io
import random

import pytest

from pipeline.predict import records
from pipeline.predict.records import Line, Record, csv_records, read_lines, tsv_records


def csv_of(content: bytes) -> list[Record]:
    return list(csv_records(read_lines(io.BytesIO(content))))


def test_lines_know_their_number_and_what_is_wrong_with_them() -> None:
    content = "\ufeffa\r\n".encode() + b"b\xff\nc"
    first, second, third = read_lines(io.BytesIO(content))
    assert first == Line(1, "a\r\n")
    assert second.problem == (
        "not UTF-8 (byte 0xff at offset 7 of the file). Save the file as UTF-8."
    )
    assert content[7] == 0xFF
    assert third == Line(3, "c")


def test_a_line_without_end_is_a_problem_and_not_a_memory_hog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "LINE_BYTES", 1 << 20)
    content = b"x" * (5 << 20) + b"\nnext\n" + b"y" * ((1 << 20) - 1) + b"\n"
    first, second, third = read_lines(io.BytesIO(content))
    assert first == Line(1, "", "longer than 1 MiB.")
    assert second == Line(2, "next\n")
    assert (len(third.text), third.problem) == (1 << 20, None)


def test_sound_csv_is_read_as_the_library_reads_it() -> None:
    draw = random.Random(0)
    pieces = ["a", "b c", '"', ",", "\n", "\r\n", "é", ""]
    rows = [["".join(draw.choices(pieces, k=5)), "x", str(place)] for place in range(300)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    found = csv_of(text.getvalue().encode())
    assert [record.cells for record in found] == rows
    lines = text.getvalue().split("\n")
    for record in found:  # each begins where it says: no earlier line is part of it
        start = "\n".join(lines[record.number - 1 :]) + "\n"
        assert next(csv.reader(io.StringIO(start, newline=""))) == record.cells


@pytest.mark.parametrize("filler", [3, 5000])
def test_a_quote_that_is_never_closed_costs_one_row(filler: int) -> None:
    """Be the end of the file near, or so far away that a record may not be that long."""
    rest = [f"{place},fine" for place in range(filler)]
    found = csv_of("\n".join(["a,b", '1,"never closed', *rest]).encode())
    assert [record.number for record in found if record.problem] == [2]
    assert "not valid CSV" in str(found[1].problem)
    assert [",".join(record.cells) for record in found[2:]] == rest
    assert [record.number for record in found] == list(range(1, filler + 3))


def test_a_stray_quote_costs_one_row() -> None:
    found = csv_of(b'a,b\n1,"two" words\n2,fine\n')
    assert [(record.number, record.cells) for record in found] == [
        (1, ["a", "b"]), (2, []), (3, ["2", "fine"]),
    ]  # fmt: skip
    assert "not valid CSV (',' expected after '\"')" in str(found[1].problem)


def test_a_byte_that_is_not_utf8_breaks_the_row_that_holds_it() -> None:
    content = b'a,b\n1,"first\nsecond \xff"\n2,fine\n'
    found = csv_of(content)
    assert [record.number for record in found] == [1, 2, 4]
    assert f"not UTF-8 (byte 0xff at offset {content.index(0xFF)} " in str(found[1].problem)


def test_a_text_may_be_longer_than_the_librarys_limit() -> None:
    limit = csv.field_size_limit()
    text = "x" * 200_000
    found = csv_records(read_lines(io.BytesIO(f"a\n{text}\n".encode())))
    assert next(found).cells == ["a"]
    assert csv.field_size_limit() == limit  # of the whole process, in the middle of a file too
    assert next(found).cells == [text]


def test_quotes_mean_nothing_in_tsv() -> None:
    lines = read_lines(io.BytesIO(b'a\tb\r\n"1\t2"\n'))
    assert [record.cells for record in tsv_records(lines)] == [["a", "b"], ['"1', '2"']]
