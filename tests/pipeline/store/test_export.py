"""pytest tests/pipeline/store/test_export.py - a cache as one Parquet file, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import (
    BusyError,
    CacheCorruptError,
    CacheError,
    CacheMismatchError,
    OutputExistsError,
)
from pipeline.locks import locked
from pipeline.store import export
from pipeline.store.export import export_cache, read_identity
from pipeline.store.reader import TeacherCache
from pipeline.store.tables import to_table
from tests.support import synthetic
from tests.support.synthetic import HIDDEN, LAYERS, ROWS, SHARD
from tests.support.tables import table_of, write_table
from tests.support.tiny import World


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    synthetic.write(tmp_path / "c.zarr")
    return TeacherCache.open(tmp_path / "c.zarr")


def vectors(table: pa.Table, column: str) -> np.ndarray:
    return np.array(
        table[column].to_pylist(), table.schema.field(column).type.value_type.to_pandas_dtype()
    )


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "halffloat"), ("float32", "float")])
def test_every_row_and_value_is_in_the_table(tmp_path: Path, dtype: str, stored: str) -> None:
    synthetic.write(tmp_path / "c.zarr", dtype=dtype)
    found = export_cache(TeacherCache.open(tmp_path / "c.zarr"), tmp_path / "new" / "c.parquet")
    table = pq.read_table(tmp_path / "new" / "c.parquet")
    assert (found.rows, found.layers, found.existed) == ({"train": ROWS}, LAYERS, False)
    assert found.size_bytes == (tmp_path / "new" / "c.parquet").stat().st_size
    names = ["split", "example_id", "input_ids", "token_type_ids", "label", "row_digest", "logits"]
    assert table.column_names == [*names, "layer_2", "layer_3", "layer_7"]
    assert str(table.schema.field("logits").type) == "fixed_size_list<element: float>[2]"
    vector = f"fixed_size_list<element: {stored}>[{HIDDEN}]"
    assert str(table.schema.field("layer_7").type) == vector
    assert table["split"].to_pylist() == ["train"] * ROWS
    for name in names[1:6]:
        assert table[name].to_pylist() == synthetic.examples()[name].to_pylist()
    logits, cls = synthetic.values()
    np.testing.assert_array_equal(vectors(table, "logits"), logits)
    for place, layer in enumerate(LAYERS):
        np.testing.assert_array_equal(vectors(table, f"layer_{layer}"), cls[:, place].astype(dtype))


def test_int8_becomes_float32(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "c.zarr", dtype="int8")
    export_cache(TeacherCache.open(tmp_path / "c.zarr"), tmp_path / "c.parquet")
    table, exact = pq.read_table(tmp_path / "c.parquet"), synthetic.values()[1]
    for place, layer in enumerate(LAYERS):
        scale = np.abs(exact[:, place]).max(-1, keepdims=True) / np.float32(127)
        wanted = np.rint(exact[:, place] / scale) * scale
        np.testing.assert_array_equal(vectors(table, f"layer_{layer}"), wanted)


def test_one_row_group_per_shard(cache: TeacherCache, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    export_cache(
        cache, tmp_path / "c.parquet", tick=lambda what, *counts, **_: seen.append((what, *counts))
    )
    with pq.ParquetFile(tmp_path / "c.parquet") as file:
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert groups == [SHARD] * 4 + [5]
    assert seen == [(what, n, 5) for what in ("shards", "read back") for n in range(1, 6)]


def test_some_layers_some_splits(tmp_path: Path) -> None:
    rows = table_of([[1, 2], [3]], [0, None], types=False)
    names = ["test", "train", "validation"]
    cache = write_table(tmp_path / "c.zarr", rows, splits=names)
    out = tmp_path / "c.parquet"
    found = export_cache(cache, out, layers=[7, 2, 7], splits=["validation", "train"])
    assert list(found.rows) == ["train", "validation"]
    table = pq.read_table(out)
    assert table["split"].to_pylist() == ["train"] * 2 + ["validation"] * 2
    assert table.column_names[6:] == ["logits", "layer_2", "layer_7"]
    assert table["token_type_ids"].null_count == 4
    assert table["label"].to_pylist() == [0, None] * 2
    found = export_cache(cache, tmp_path / "logits.parquet", layers=[])
    assert (found.layers, list(found.rows)) == ((), ["train", "validation", "test"])
    assert pq.read_table(tmp_path / "logits.parquet").column_names[6:] == ["logits"]


def test_regression(tmp_path: Path) -> None:
    fields = synthetic.described()
    fields["task"] |= {"label_names": [], "metrics": ["pearson"]}
    fields["teacher"] |= {"output_order": [0]}
    rows = table_of([[1, 2], [3]], [0.5, None], regression=True)
    cache = write_table(tmp_path / "c.zarr", rows, outputs=1, fields=fields)
    export_cache(cache, tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    assert table["label"].to_pylist() == [0.5, None]
    assert str(table.schema.field("logits").type) == "fixed_size_list<element: float>[1]"


def test_the_file_says_what_it_is(world: World, tmp_path: Path) -> None:
    cache = TeacherCache.open(world.cache16)
    export_cache(cache, tmp_path / "c.parquet", layers=[4])
    content = json.loads(pq.read_metadata(tmp_path / "c.parquet").metadata[b"pkd"])
    manifest = json.loads((world.cache16 / "manifest.json").read_bytes())
    for name in ("cache_id", "content_digest", "task", "teacher", "tokenizer", "max_length"):
        assert content[name] == manifest[name]
    assert (content["layers"], content["splits"]) == ([4], ["train", "validation", "test"])
    ids = pq.read_table(tmp_path / "c.parquet", filters=[("split", "==", "validation")])
    assert ids["input_ids"].to_pylist() == cache.examples("validation")["input_ids"].to_pylist()
    assert read_identity(world.raw / "train.parquet") is None
    assert read_identity(tmp_path / "gone") is None


def spoil(name: str, change: Callable[[list[Any]], None]) -> Any:
    """A way of writing that gets one value of the third shard wrong."""
    honest = to_table

    def table(shard: Any, schema: pa.Schema) -> pa.Table:
        written = honest(shard, schema)
        if shard.rows.start != 2 * SHARD:
            return written
        content = written[name].to_pylist()
        change(content)
        place = written.column_names.index(name)
        return written.set_column(
            place, schema.field(place), pa.array(content, schema.types[place])
        )

    return table


def set_label(content: list[Any]) -> None:
    content[1] = 1 - content[1]


def set_number(content: list[Any]) -> None:
    content[5][1] += 0.25


def set_token(content: list[Any]) -> None:
    content[0][0] = 0


def set_split(content: list[Any]) -> None:
    content[7] = "test"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("split", set_split), ("input_ids", set_token), ("label", set_label),
        ("logits", set_number), ("layer_3", set_number),
    ],
)  # fmt: skip
def test_a_file_that_does_not_read_back_is_removed(
    cache: TeacherCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Any
) -> None:
    export_cache(cache, tmp_path / "c.parquet", layers=[2])
    before = (tmp_path / "c.parquet").read_bytes()
    monkeypatch.setattr(export, "to_table", spoil(name, change))
    for out in ("c.parquet", "d.parquet"):
        with pytest.raises(CacheError, match=rf"{out}: .*train rows 16\.\.23, column {name}"):
            export_cache(cache, tmp_path / out, overwrite=True)
    assert (tmp_path / "c.parquet").read_bytes() == before
    assert left_in(tmp_path) == ["c.parquet", "c.zarr"]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_cut_short_while_it_was_written_is_removed(
    cache: TeacherCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export._write

    def cut(cache: TeacherCache, path: Path, *more: Any) -> None:
        honest(cache, path, *more)
        path.write_bytes(path.read_bytes()[:-3])

    monkeypatch.setattr(export, "_write", cut)
    with pytest.raises(CacheError, match=r"does not read back as it was written"):
        export_cache(cache, tmp_path / "c.parquet")
    assert left_in(tmp_path) == ["c.zarr"]


def test_a_damaged_cache_is_not_exported(cache: TeacherCache, tmp_path: Path) -> None:
    shard = tmp_path / "c.zarr" / "train" / "cls" / "c" / "3" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    with pytest.raises(CacheCorruptError):
        export_cache(cache, tmp_path / "c.parquet")
    assert left_in(tmp_path) == ["c.zarr"]


def test_an_interrupted_export_leaves_what_was_there(cache: TeacherCache, tmp_path: Path) -> None:
    export_cache(cache, tmp_path / "c.parquet", layers=[2])
    before = (tmp_path / "c.parquet").read_bytes()

    def interrupt(what: str, done: int, *_: int, **__: float) -> None:
        if (what, done) == ("read back", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_cache(cache, tmp_path / "c.parquet", overwrite=True, tick=interrupt)
    assert (tmp_path / "c.parquet").read_bytes() == before
    assert left_in(tmp_path) == ["c.parquet", "c.zarr"]


def test_an_output_that_exists(cache: TeacherCache, tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    export_cache(cache, out)
    before = out.stat()
    again = export_cache(cache, out, overwrite=True)
    assert again.existed
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(OutputExistsError, match=r"another export \(layers differ\)"):
        export_cache(cache, out, layers=[3])
    assert not export_cache(cache, out, layers=[3], overwrite=True).existed
    assert pq.read_schema(out).names[-1] == "layer_3"


def test_what_is_not_ours_is_never_replaced(cache: TeacherCache, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"mine")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    for name in ("mine.parquet", "theirs.parquet", "c.zarr"):
        with pytest.raises(OutputExistsError, match="no export of a cache"):
            export_cache(cache, tmp_path / name, overwrite=True)
    assert (tmp_path / "mine.parquet").read_bytes() == b"mine"


def test_what_is_not_cached_is_refused_before_anything_is_written(
    cache: TeacherCache, tmp_path: Path
) -> None:
    with pytest.raises(CacheMismatchError, match="layer 4 is not cached"):
        export_cache(cache, tmp_path / "c.parquet", layers=[4])
    with pytest.raises(CacheMismatchError, match="no split `dev`"):
        export_cache(cache, tmp_path / "c.parquet", splits=["dev"])
    assert left_in(tmp_path) == ["c.zarr"]


def test_one_writer_at_a_time(cache: TeacherCache, tmp_path: Path) -> None:
    with locked(tmp_path / "c.parquet"), pytest.raises(BusyError):
        export_cache(cache, tmp_path / "c.parquet")
