"""pytest tests/pipeline/store/test_hostile_examples.py - made-up Arrow files and tokens.

As `test_hostile.py`: sealed, read in 1.5 GiB, refused in one line, within a second and 100 MB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.store.stored import Stored
from tests.support.hostile import (
    EXAMPLES_FILE,
    ROWS,
    forged,
    put,
    write_made_up,
    write_values,
)
from tests.support.synthetic import described, examples, values
from tests.support.victim import Report, Victim, require_cheap, require_refused


def arrow(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def cast(name: str, kind: Any) -> Callable[[Any], Any]:
    """A column of another type."""
    return lambda table: table.set_column(
        table.schema.get_field_index(name), name, table[name].cast(kind)
    )


def column(name: str, change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    """A column of other values, its type kept."""

    def changed(table: Any) -> Any:
        field = table.schema.field(name)
        made = pa.array(change(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, made)

    return changed


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


class Evil(pa.ExtensionType):
    """Its own code would run when a file names it and it is registered."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "pkd.evil")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Any:
        raise AssertionError("its code ran")


def extension(table: Any) -> Any:
    made = pa.ExtensionArray.from_storage(Evil(), table["example_id"].combine_chunks())
    return table.set_column(0, "example_id", made)


def dictionary(table: Any) -> Any:
    return table.set_column(0, "example_id", table["example_id"].dictionary_encode())


def list_view(table: Any) -> Any:
    values = pa.array(table["input_ids"].to_pylist(), pa.list_view(pa.int32()))
    return table.set_column(1, "input_ids", values)


def deep(table: Any) -> Any:
    made = table["example_id"].combine_chunks()
    for _ in range(60):
        made = pa.ListArray.from_arrays(np.arange(len(made) + 1, dtype="i4"), made)
    return table.set_column(0, "example_id", made)


SCHEMAS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a dictionary": (dictionary, "expected batches"),
    "an extension type": (extension, "has an extension type"),
    "nested lists": (deep, "unexpected columns"),
    "wider tokens": (cast("input_ids", pa.list_(pa.int64())), "unexpected columns"),
    "large lists": (cast("input_ids", pa.large_list(pa.int32())), "unexpected columns"),
    "list views": (list_view, "unexpected columns"),
    "digests of any length": (cast("row_digest", pa.binary()), "unexpected columns"),
    "numbers for labels": (cast("label", pa.float64()), "unexpected columns"),
    "a column more": (lambda t: t.append_column("x", pa.nulls(len(t))), "unexpected columns"),
    "a column less": (lambda t: t.drop_columns("label"), "unexpected columns"),
    "another order": (lambda t: t.select(t.column_names[::-1]), "unexpected columns"),
    "a name of other characters": (
        lambda t: t.rename_columns(["\x1b[2J\n", *t.column_names[1:]]), "unexpected columns",
    ),
    "metadata": (lambda t: t.replace_schema_metadata({"a": "b"}), "unexpected columns or metadata"),
    "a row less": (lambda t: t.slice(1), "11 rows, the manifest says 12"),
    "a row more": (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "13 rows, the manifest says 12"),
    "no rows": (lambda t: t.slice(0, 0), "0 rows, the manifest says 12|expected batches"),
    "an id of no value": (column("example_id", first(None)), "example_id has rows without a value"),
    "tokens of no value": (column("input_ids", first(None)), "input_ids has rows without a value"),
    "a token of no value": (column("input_ids", first([None])), "values outside of its rows"),
    "a type of no value": (column("token_type_ids", first([None])), "values outside of its rows"),
    "types of some rows": (column("token_type_ids", first(None)), "token types and tokens are of"),
    "a token beyond": (column("input_ids", first([9])), r"token id \d\.\.9, expected 0\.\.8"),
    "a token below": (column("input_ids", first([-1])), r"token id -1\.\.8, expected 0\.\.8"),
    "a large token": (column("input_ids", first([2**31 - 1])), "token id"),
    "a type below": (column("token_type_ids", first([-1])), "token type"),
    "types of another length": (column("token_type_ids", first([0] * 8)), "are of other lengths"),
    "a row of no tokens": (column("input_ids", first([])), r"row length 0\.\.\d"),
    "a long row": (column("input_ids", first([1] * 9)), r"row length \d\.\.9, expected 1\.\.8"),
    "a label below": (column("label", first(-100)), r"label -100\.\.1, expected 0\.\.1"),
    "a label beyond": (column("label", first(2)), r"label 0\.\.2, expected 0\.\.1"),
    "a large label": (column("label", first(2**62)), "label"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_examples_of_another_form(cache: Path, victim: Victim, name: str) -> None:
    change, message = SCHEMAS[name]
    put(cache, EXAMPLES_FILE, arrow(change(examples(ROWS))))
    require_refused(victim.examine(cache), "train.examples", rf"examples\.arrow: .*({message})")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_examples_that_are_compressed(cache: Path, victim: Victim, codec: str) -> None:
    put(cache, EXAMPLES_FILE, arrow(examples(ROWS), compression=codec))
    require_refused(victim.examine(cache), "train.examples", r"examples\.arrow: compressed")


def test_a_buffer_that_claims_a_terabyte(cache: Path, victim: Victim) -> None:
    """A compressed buffer begins with its decoded size."""
    raw = arrow(examples(ROWS), compression="zstd")
    at = raw.index(b"\x28\xb5\x2f\xfd") - 8
    put(cache, EXAMPLES_FILE, raw[:at] + struct.pack("<q", 1 << 40) + raw[at + 8 :])
    require_refused(victim.examine(cache), "train.examples", r"examples\.arrow: compressed")


def offsets_at(raw: bytes | bytearray) -> int:
    """Place of the offsets of input_ids in the bytes of a file."""
    lengths = [len(row) for row in examples(ROWS)["input_ids"].to_pylist()]
    wanted = np.cumsum([0, *lengths]).astype("<i4").tobytes()
    return raw.index(wanted)


@pytest.mark.parametrize(
    ("place", "value"), [(0, -1), (0, 1), (3, -5), (3, 1 << 30), (12, 1 << 30), (12, 50), (5, 0)]
)
def test_rows_that_begin_and_end_elsewhere(
    cache: Path, victim: Victim, place: int, value: int
) -> None:
    """(0, 1) and (12, 50) are sound for Arrow: the first or last value belongs to no row."""
    raw = bytearray((cache / EXAMPLES_FILE).read_bytes())
    struct.pack_into("<i", raw, offsets_at(raw) + 4 * place, value)
    put(cache, EXAMPLES_FILE, bytes(raw))
    require_refused(victim.examine(cache), "train.examples", r"examples\.arrow: ")


RAW_EXAMPLES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda raw: b"",
    "a magic number": lambda raw: raw[:8],
    "zeros": lambda raw: bytes(len(raw)),
    "a stream": lambda raw: raw[8:],
    "Feather 1": lambda raw: b"FEA1" + raw[4:],
    "Parquet": lambda raw: b"PAR1" + raw[4:-4] + b"PAR1",
    "pickle": lambda raw: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a schema of 2 GB": lambda raw: raw[:12] + struct.pack("<i", 2**31 - 1) + raw[16:],
    "a schema of -1": lambda raw: raw[:12] + struct.pack("<i", -1) + raw[16:],
    "half of it": lambda raw: raw[: len(raw) // 2],
    "its start twice": lambda raw: raw[: len(raw) // 2] + raw[: len(raw) // 2],
}


@pytest.mark.parametrize("name", RAW_EXAMPLES)
def test_examples_of_other_bytes(cache: Path, victim: Victim, name: str) -> None:
    raw = RAW_EXAMPLES[name]((cache / EXAMPLES_FILE).read_bytes())
    put(cache, EXAMPLES_FILE, raw)
    report = victim.examine(cache)
    step = "open" if "open" in report.failures else "train.examples"
    require_refused(report, step, r"examples\.arrow")


def test_the_footer_is_not_read(cache: Path, victim: Victim, original: Report) -> None:
    """It could name other batches than those that were checked."""
    raw = (cache / EXAMPLES_FILE).read_bytes()
    put(cache, EXAMPLES_FILE, raw[:-300] + bytes(290) + raw[-10:])
    report = victim.examine(cache)
    require_cheap(report)
    assert report.values == original.values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_a_number_that_is_none(tmp_path: Path, victim: Victim, value: float) -> None:
    """Of a regression task; an unlabelled row has null."""
    table = column("label", first(value))(cast("label", pa.float64())(examples(ROWS)))
    cls = Stored(values(ROWS)[1].astype("f2"), None)
    fields = described()
    fields["task"] |= {"label_names": [], "metrics": ["pearson"]}
    fields["teacher"]["output_order"] = [0]
    write_values(tmp_path / "c.zarr", table, np.zeros((ROWS, 1), "f4"), cls, fields)
    report = victim.examine(tmp_path / "c.zarr")
    if value == 0.5:
        assert report.verified
    else:
        require_refused(report, "train.examples", r"examples\.arrow: label is not finite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (column("input_ids", first([1])), "tokens that are not those of their row_digest"),
        (column("input_ids", lambda rows: rows[::-1]), "not those of their row_digest"),
        (column("row_digest", first(b"0" * 16)), "not those of their row_digest"),
        (column("example_id", first(int(examples(ROWS)["example_id"][1]))), "an example_id twice"),
    ],
)
def test_tokens_that_are_not_those_of_their_digest(
    tmp_path: Path, victim: Victim, change: Callable[[Any], Any], message: str
) -> None:
    table = change(examples(ROWS))
    lengths = [len(row) for row in table["input_ids"].to_pylist()]
    table = column("token_type_ids", lambda _: [[0] * length for length in lengths])(table)
    write_made_up(tmp_path / "c.zarr", table=table)
    report = victim.examine(tmp_path / "c.zarr")
    require_cheap(report)
    assert [name for name, problem in report.findings] == [EXAMPLES_FILE]
    assert message in report.findings[0][1]


@pytest.mark.parametrize("change", [{"labelled_rows": 1}, {"digest": "0" * 64}, {"tokens": 12}])
def test_counts_that_are_not_those_of_the_examples(
    cache: Path, victim: Victim, change: dict[str, Any]
) -> None:
    with forged(cache) as content:
        content["splits"]["train"] |= change
    report = victim.examine(cache)
    require_cheap(report)
    assert [name for name, _ in report.findings] == [EXAMPLES_FILE]
