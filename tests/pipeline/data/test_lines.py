"""pytest tests/pipeline/data/test_lines.py."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.lines import decoded_lines, read_csv, read_jsonl, read_tsv
from pipeline.data.raw import Wanted
from pipeline.errors import DataError

Write = Callable[[str, str | bytes], Path]
TEXT_AND_LABEL = Wanted({"text": ("text",), "label": ("label", "gold")})
OPTIONAL_LABEL = Wanted({"text": ("text",), "label": ("label",)}, optional=frozenset({"label"}))


def test_tsv_takes_quotes_as_characters(write: Write) -> None:
    path = write("a.tsv", 'text\tlabel\n"a\t1\nb"\t0\nsay "hi"\t1\n')
    raw = read_tsv(path, TEXT_AND_LABEL)
    assert raw.columns["text"] == ['"a', 'b"', 'say "hi"']
    assert raw.columns["label"] == ["1", "0", "1"]


def test_byte_order_mark_windows_line_ends_and_a_missing_last_one_are_no_data(write: Write) -> None:
    path = write("a.tsv", b"\xef\xbb\xbftext\tlabel\r\none \t1\r\ntwo\t0")
    raw = read_tsv(path, TEXT_AND_LABEL)
    assert raw.columns == {"text": ["one ", "two"], "label": ["1", "0"]}
    assert [raw.place(row) for row in range(2)] == [f"{path}, line 2", f"{path}, line 3"]


def test_only_a_line_feed_ends_a_line(write: Write) -> None:
    """`str.splitlines` would cut at these; GLUE-like files from the web have them inside texts."""
    text = "a\x0bb\x0cc\x1cd\x85e\u2028f"
    raw = read_tsv(write("a.tsv", f"text\tlabel\n{text}\t1\n"), TEXT_AND_LABEL)
    assert raw.columns["text"] == [text]


def test_empty_lines_are_left_out_but_not_out_of_the_line_numbers(write: Write) -> None:
    raw = read_tsv(write("a.tsv", "text\tlabel\n\na\t1\n\n\nb\t0\n\n"), TEXT_AND_LABEL)
    assert list(raw.numbers) == [3, 6]


def test_an_empty_line_of_a_file_with_one_column_is_a_row(write: Write) -> None:
    """Left out, it would shift the rows behind it against the owner's own numbering."""
    raw = read_tsv(write("a.tsv", "text\na\n\nb\n"), OPTIONAL_LABEL)
    assert raw.columns == {"text": ["a", "", "b"]}
    assert read_csv(write("a.csv", "text\na\n\nb\n"), OPTIONAL_LABEL).columns == raw.columns


@pytest.mark.parametrize("cells", ["only one", "a\tb\tc"])
def test_a_ragged_line_is_named(write: Write, cells: str) -> None:
    path = write("a.tsv", f"text\tlabel\nfine\t1\n{cells}\nfine\t0\n")
    count = cells.count("\t") + 1
    with pytest.raises(DataError, match=rf"line 3: expected 2 columns .*, found {count}\."):
        read_tsv(path, TEXT_AND_LABEL)


def test_short_lines_are_counted_where_that_is_asked_for(write: Write) -> None:
    path = write("a.tsv", "text\tlabel\ncut in\ntwo\nfine\t0\n")
    raw = read_tsv(path, TEXT_AND_LABEL, skip_short=True)
    assert (raw.columns["text"], raw.skipped) == (["fine"], 2)
    with pytest.raises(DataError, match="found 3"):
        read_tsv(write("b.tsv", "text\tlabel\na\tb\tc\n"), TEXT_AND_LABEL, skip_short=True)


def test_csv_quotes_commas_doubled_quotes_and_line_breaks(write: Write) -> None:
    content = 'label,text\n1,"a, b"\n0,"she said ""no""\nand left"\n1,plain\n'
    raw = read_csv(write("a.csv", content), TEXT_AND_LABEL)
    assert raw.columns["text"] == ["a, b", 'she said "no"\nand left', "plain"]
    assert list(raw.numbers) == [2, 3, 5]


def test_csv_rows_are_named_by_their_first_line(write: Write) -> None:
    path = write("a.csv", 'label,text\n1,"one\ntwo\nthree"\n1\n')
    with pytest.raises(DataError, match=r"a\.csv, line 5: expected 2 columns .*found 1"):
        read_csv(path, TEXT_AND_LABEL)


@pytest.mark.parametrize("row", ['0,"never closed', '0,"closed" too early'])
def test_csv_quotes_that_do_not_match_are_named(write: Write, row: str) -> None:
    path = write("a.csv", f"label,text\n1,fine\n{row}\n1,fine\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: not valid CSV"):
        read_csv(path, TEXT_AND_LABEL)


def test_csv_texts_may_be_longer_than_the_modules_limit(write: Write) -> None:
    limit = csv.field_size_limit()
    raw = read_csv(write("a.csv", f"label,text\n1,{'x' * (limit + 1)}\n"), TEXT_AND_LABEL)
    assert len(raw.columns["text"][0]) == limit + 1
    assert csv.field_size_limit() == limit


def test_jsonl_keeps_types_and_skips_blank_lines(write: Write) -> None:
    content = '{"text": "a\\tb", "label": 1}\n\n{"gold": "yes", "text": "c", "more": []}\n'
    raw = read_jsonl(write("a.jsonl", content), TEXT_AND_LABEL)
    assert raw.columns == {"text": ["a\tb", "c"], "label": [1, "yes"]}
    assert list(raw.numbers) == [1, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2: not valid JSON"),
        ('["a", 1]', r"line 2: expected a JSON object, found \[\"a\", 1\]"),
        ('{"label": 1, "tekst": "a"}', r"line 2: no column `text`. Did you mean `tekst`\?"),
        ("[" * 100_000, "line 2: not valid JSON"),
    ],
)
def test_bad_json_lines_are_named(write: Write, line: str, message: str) -> None:
    path = write("a.jsonl", f'{{"text": "a", "label": 0}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_jsonl(path, TEXT_AND_LABEL)


def test_not_utf8_is_named_by_line_and_offset(write: Write) -> None:
    path = write("a.tsv", b"text\tlabel\nfine\t1\ncaf\xe9\t0\n")
    with pytest.raises(DataError, match=r"line 3: not UTF-8 \(byte 0xe9 at offset 21 of"):
        read_tsv(path, TEXT_AND_LABEL)
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_csv(write("a.csv", b"text,label\ncaf\xe9,0\n"), TEXT_AND_LABEL)


def test_utf16_is_refused(write: Write) -> None:
    path = write("a.csv", "text,label\na,1\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"line 1: not UTF-8 .* Save the file as UTF-8"):
        read_csv(path, TEXT_AND_LABEL)


@pytest.mark.parametrize("content", ["", "\n", "\r\n", "\ufeff"])
def test_a_file_without_a_header_is_refused(write: Write, content: str) -> None:
    with pytest.raises(DataError, match="expected a line of column names first"):
        read_tsv(write("a.tsv", content), TEXT_AND_LABEL)


def test_a_missing_column_lists_those_found(write: Write) -> None:
    path = write("a.tsv", "texts\tlabel\na\t1\n")
    message = r"no column `text`. Did you mean `texts`\? Columns found: texts, label\."
    with pytest.raises(DataError, match=message):
        read_tsv(path, TEXT_AND_LABEL)
    with pytest.raises(DataError, match="no column `label` or `gold`"):
        read_tsv(write("b.tsv", "text\na\n"), TEXT_AND_LABEL)


@pytest.mark.parametrize("header", ["text\tlabel", "text;label"])
def test_another_separator_is_explained(write: Write, header: str) -> None:
    with pytest.raises(DataError, match=r"not split: \.csv is separated by commas, \.tsv by tabs"):
        read_csv(write("a.csv", f"{header}\na\t1\n"), TEXT_AND_LABEL)


def test_a_column_that_is_there_twice_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="column `text` is there twice"):
        read_tsv(write("a.tsv", "text\tlabel\ttext\na\t1\tb\n"), TEXT_AND_LABEL)


def test_an_optional_column_may_be_absent(write: Write) -> None:
    assert read_tsv(write("a.tsv", "text\tx\na\t1\n"), OPTIONAL_LABEL).columns == {"text": ["a"]}


def test_decoded_lines_count_from_one(write: Write) -> None:
    assert list(decoded_lines(write("a", "x\ny"))) == [(1, "x\n"), (2, "y")]
