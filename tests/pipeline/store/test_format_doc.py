"""pytest tests/pipeline/store/test_format_doc.py - docs/format.md says what is true.

`read_plainly` is written from that page, with zarr, pyarrow, numpy and the standard library alone.
It reads sound caches; what to refuse in those of others is the matter of `test_hostile.py`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pyarrow as pa
import pytest
import zarr

from pipeline.store import fields as of_fields
from pipeline.store import format as layout
from pipeline.store import manifest as of_manifest
from pipeline.store import validate
from pipeline.store.examples import schema
from pipeline.store.format import array_specs
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import encode_cls
from tests.support.hostile import crc32c, write_values
from tests.support.pages import fenced
from tests.support.synthetic import LAYERS, described, examples, values, write

DOC = (Path(__file__).parents[3] / "docs" / "format.md").read_text("utf-8")
ROWS, SHARD_ROWS = 21, 8


def read_plainly(folder: Path) -> dict[str, Any]:
    """Read a whole cache as the page says, and compare every digest of it."""

    def sha256(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    def canonical(value: Any) -> bytes:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    def digest(rows: Any) -> str:
        kind = {"float16": "<f2", "float32": "<f4", "int8": "|i1"}[str(rows.dtype)]
        text = f"{kind}({rows.shape[0]}, {rows.shape[1]})"
        return sha256(text.encode() + np.ascontiguousarray(rows).tobytes())

    raw = (folder / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    assert (manifest["format"], manifest["format_version"]) == ("pkd-teacher-cache", 1)
    assert canonical(manifest) == raw
    rest = {key: value for key, value in manifest.items() if key != "content_digest"}
    assert sha256(canonical(rest)) == manifest["content_digest"]
    for path, entry in manifest["files"].items():
        content = (folder / path).read_bytes()
        assert {"size": len(content), "sha256": sha256(content)} == entry
    group, found, size = zarr.open_group(str(folder), mode="r"), {}, manifest["shard_rows"]
    for split, of_arrays in manifest["row_digests"].items():
        arrays = {name: np.asarray(group[f"{split}/{name}"]) for name in of_arrays}
        for name, of_shards in of_arrays.items():
            for shard, expected in enumerate(of_shards):
                rows = arrays[name][shard * size : (shard + 1) * size]
                parts = np.moveaxis(rows, 1, 0) if name == "cls" else [rows]
                assert [digest(part) for part in parts] == expected
        with (folder / split / "examples.arrow").open("rb") as file:
            table = pa.ipc.open_file(file).read_all().to_pydict()
        columns = [table["input_ids"], table["token_type_ids"], table["row_digest"]]
        for ids, types, expected in zip(*columns, strict=True):
            tokens = struct.pack(f"<{len(ids)}i", *ids)
            if types is not None:
                tokens += b"|" + struct.pack(f"<{len(types)}i", *types)
            assert hashlib.blake2b(tokens, digest_size=16).digest() == expected
        lines = [str(each).encode() for each in table["example_id"]] + table["row_digest"]
        lines += [str(each).encode() for each in table["label"]]
        joined = b"".join(line + b"\n" for line in lines)
        assert sha256(joined) == manifest["splits"][split]["digest"]
        cls = arrays["cls"]
        if manifest["dtype"] == "int8":
            cls = cls.astype(np.float32) * arrays["cls_scale"][:, :, None]
        found[split] = {**arrays, "cls": cls, "examples": table}
    return {"manifest": manifest, "splits": found}


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_a_reader_written_from_the_page_reads_the_same(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "c.zarr", rows=ROWS, shard_rows=SHARD_ROWS, dtype=dtype)
    plain, cache = read_plainly(tmp_path / "c.zarr"), TeacherCache.open(tmp_path / "c.zarr")
    train = plain["splits"]["train"]
    np.testing.assert_array_equal(train["cls"], cache.cls("train", LAYERS), strict=True)
    np.testing.assert_array_equal(train["logits"], cache.logits("train"), strict=True)
    np.testing.assert_array_equal(train["logits"], values(ROWS)[0], strict=True)
    assert train["examples"] == cache.examples("train").to_pydict()
    assert train["examples"] == examples(ROWS).to_pydict()
    assert plain["manifest"] == cache.manifest.to_dict()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_it_reads_logits_out_of_fold(tmp_path: Path, dtype: str) -> None:
    write(
        tmp_path / "c.zarr", rows=ROWS, shard_rows=SHARD_ROWS, dtype=dtype, out_of_fold=("train",)
    )
    found = read_plainly(tmp_path / "c.zarr")["splits"]["train"]["out_of_fold"]
    cache = TeacherCache.open(tmp_path / "c.zarr")
    np.testing.assert_array_equal(found, cache.out_of_fold("train"), strict=True)
    np.testing.assert_array_equal(found, -values(ROWS)[0], strict=True)
    assert "`out_of_fold`" in DOC


def test_it_reads_regression_and_families_without_token_types(tmp_path: Path) -> None:
    write_odd(tmp_path / "c.zarr")
    train = read_plainly(tmp_path / "c.zarr")["splits"]["train"]
    cache = TeacherCache.open(tmp_path / "c.zarr")
    assert train["examples"] == cache.examples("train").to_pydict()
    assert train["examples"]["token_type_ids"] == [None] * ROWS
    assert train["examples"]["label"][:2] == [None, 1.0]
    np.testing.assert_array_equal(train["logits"], cache.logits("train"), strict=True)


def write_odd(target: Path) -> None:
    """A cache that uses what others leave out: regression, no token types, a base, scores, int8."""
    from pipeline.digests import row_digest

    table, cls = examples(ROWS), values(ROWS)[1]
    ids = table["input_ids"].to_pylist()
    odd = {
        "example_id": table["example_id"],
        "input_ids": table["input_ids"],
        "token_type_ids": pa.nulls(ROWS, pa.list_(pa.int8())),
        "label": table["label"].cast(pa.float64()),
        "row_digest": pa.array([row_digest(row, None) for row in ids], pa.binary(16)),
    }
    given = described()
    given["task"] |= {"label_names": [], "metrics": ["spearman"], "id_column": "id"}
    given["teacher"] |= {
        "base": {"name": "google/bert", "hub_id": "google/bert", "digest": None},
        "scores": {"train": {"spearman": 0.5}},
        "agreement": {"train": 0.25},
        "output_order": [0],
    }
    given["versions"] = {"zarr": "3"}
    made = pa.table(odd, schema=schema(regression=True))
    logits = values(ROWS)[0][:, :1]
    write_values(target, made, logits, encode_cls(cls, "int8", LAYERS), given, dtype="int8")


def test_the_reader_uses_nothing_of_ours(tmp_path: Path) -> None:
    """It works where no names are known but those of the libraries; and it is short."""
    source = inspect.getsource(read_plainly)
    assert len(source.splitlines()) < 60
    assert not re.search("import|pipeline|tests", source)
    known: dict[str, Any] = {"json": json, "hashlib": hashlib, "struct": struct, "np": np}
    known |= {"pa": pa, "zarr": zarr}
    exec(f"from __future__ import annotations\n{source}", known)
    write(tmp_path / "c.zarr", rows=ROWS)
    again = known["read_plainly"](tmp_path / "c.zarr")
    assert again["manifest"] == read_plainly(tmp_path / "c.zarr")["manifest"]


def test_a_layer_is_read_from_a_shard_by_hand(tmp_path: Path) -> None:
    """The bytes of a shard, as the page describes them: no library but that of Zstandard."""
    write(tmp_path / "c.zarr", rows=ROWS, shard_rows=SHARD_ROWS)
    exact = values(ROWS)[1].astype("<f2")
    for shard in range(3):
        raw = (tmp_path / f"c.zarr/train/cls/c/{shard}/0/0").read_bytes()
        index, checksum = raw[-16 * len(LAYERS) - 4 : -4], raw[-4:]
        assert struct.pack("<I", crc32c(index)) == checksum
        entries = list(struct.iter_unpack("<QQ", index))
        assert sum(size for _, size in entries) + len(index) + 4 == len(raw)
        for place, (offset, size) in enumerate(entries):
            frame = raw[offset : offset + size]
            assert frame[:4] == b"\x28\xb5\x2f\xfd"
            assert frame[4] & 0x04  # the content has a checksum
            decoded = np.frombuffer(numcodecs.Zstd().decode(frame), "<f2").reshape(SHARD_ROWS, -1)
            rows = exact[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS, place]
            np.testing.assert_array_equal(decoded[: len(rows)], rows)
    raw = (tmp_path / "c.zarr/train/logits/c/2/0").read_bytes()
    decoded = np.frombuffer(numcodecs.Zstd().decode(raw), "<f4").reshape(SHARD_ROWS, 2)
    np.testing.assert_array_equal(decoded[:5], values(ROWS)[0][16:])


MAPS = {
    "splits": "split", "splits.<split>.length_histogram": "length", "arrays": "path",
    "files": "path", "row_digests": "split", "row_digests.<split>": "array",
    "measured_error.layers": "layer", "teacher.scores": "split",
    "teacher.scores.<split>": "metric", "teacher.agreement": "split", "versions": "library",
}  # fmt: skip


def members(value: Any, path: str = "") -> Iterator[str]:
    """Names of the members of a manifest as the page writes them."""
    if not isinstance(value, dict):
        yield path
        return
    if path == "teacher.base":
        yield path
    for key, each in value.items():
        name = f"<{MAPS[path]}>" if path in MAPS else key
        yield from members(each, f"{path}.{name}".lstrip("."))


def table_below(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading of the page, its header left out."""
    block = re.search(r"(^\|.*\n)+", DOC.split(f"\n{heading}\n")[1], re.MULTILINE)
    assert block
    rows = block[0].splitlines()[2:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_the_page_names_every_member_of_a_manifest_and_no_other(tmp_path: Path) -> None:
    write_odd(tmp_path / "c.zarr")
    found = {*members(json.loads((tmp_path / "c.zarr" / "manifest.json").read_bytes()))}
    rows = table_below("## manifest.json")
    documented = [row[0].strip("`") for row in rows]
    assert len(documented) == len(set(documented))
    assert set(documented) == found
    assert {name.split(".")[0] for name in documented} == {each.name for each in fields(Manifest)}


def test_the_page_names_every_member_that_is_checked() -> None:
    """The other way round: what is checked, and left out by any cache, is documented too."""
    assert {row[0].strip("`").split(".")[0] for row in table_below("## manifest.json")} == set(
        of_fields.FIELDS
    )
    assert of_fields.FIELDS.keys() == {each.name for each in fields(Manifest)}


def test_the_metadata_of_the_page_is_that_of_an_array() -> None:
    block = fenced(DOC, "json")[0]
    specs = array_specs(
        rows=2490, layers=12, hidden=768, outputs=2, dtype="float16", shard_rows=4096
    )
    assert json.loads(block.text) == specs["cls"].metadata()
    group = re.search(r'`(\{"attributes".*?\})`', DOC)
    assert group
    assert json.loads(group[1]) == layout.GROUP_METADATA


def test_the_columns_of_the_page_are_those_of_the_examples() -> None:
    rows = table_below("## examples.arrow")
    assert [row[0].strip("`") for row in rows] == schema(regression=False).names
    kinds = [str(kind) for kind in schema(regression=False).types]
    shown = ["int64", "list<item: int32>", "list<item: int8>", "int64", "fixed_size_binary[16]"]
    assert kinds == shown


LIMITS: dict[str, Callable[[], int]] = {
    "bytes of `manifest.json`": lambda: of_manifest.LARGEST_MANIFEST,
    "bytes of a `zarr.json`": lambda: layout.LARGEST_METADATA,
    "rows of a split, `shard_rows`, bytes of a file": lambda: of_fields.MOST_ROWS,
    "`teacher.layers`, cached layers": lambda: of_fields.MOST_LAYERS,
    "`hidden_size`": lambda: of_fields.LARGEST_HIDDEN,
    "`outputs`": lambda: of_fields.MOST_OUTPUTS,
    "decoded bytes of a chunk": lambda: layout.LARGEST_CHUNK_BYTES,
    "decoded bytes of an array that may be any number of times its files": (
        lambda: validate.SMALL_BYTES
    ),
    "decoded bytes of any other array, by the bytes of its files": lambda: validate.MOST_EXPANSION,
}


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    found = {row[0]: int(row[1].replace(",", "")) for row in table_below("## Limits")}
    assert {name: found.get(name) for name in LIMITS} == {name: f() for name, f in LIMITS.items()}
    accepts = of_fields.FIELDS["max_length"]
    assert accepts(found["`max_length`"])
    assert not accepts(found["`max_length`"] + 1)
    accepts = of_fields.FIELDS["data_digest"]
    assert accepts("x" * found["characters of a text"])
    assert not accepts("x" * (found["characters of a text"] + 1))


def test_the_identity_of_the_page_is_that_of_a_build() -> None:
    """The members of the object whose digest is `cache_id`, in `caching.plan.plan_build`."""
    source = (Path(__file__).parents[3] / "pipeline" / "caching" / "plan.py").read_text("utf-8")
    block = re.search(r"identity = \{(.*?)\n    \}", source, re.DOTALL)
    assert block
    named = re.search(r"\*\*cache_id\.\*\*(.*?)\n\n", DOC, re.DOTALL)
    assert named
    for member in re.findall(r'"(\w+)":', block[1]):
        assert f"`{member}`" in named[1], member
