"""pytest tests/test_scaling.py - the counted figures of docs/scaling.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.store.describe import derive
from pipeline.store.format import array_specs, shard_count, split_files
from pipeline.store.manifest import LARGEST_MANIFEST, read_manifest
from pipeline.store.stored import encode_cls
from pipeline.store.writer import CacheWriter
from tests.support.synthetic import described, examples, plan

PAGE = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text("utf-8")
LAYERS = tuple(range(1, 13))
ROWS = (10**6, 10**8, 10**10)
UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12}


def cells(start: str) -> list[str]:
    """The three figures of a row of the second table."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.split("|")[2:5]]


def size(cell: str) -> float:
    number, unit = cell.split()
    return float(number) * UNITS[unit]


def manifest_bytes(folder: Path, shards: int) -> int:
    planned, rows = plan(layers=LAYERS), 8 * shards
    told = described(LAYERS)
    told["teacher"]["layers"] = 12
    cls = np.random.default_rng(0).normal(size=(rows, 12, 5)).astype("f4")
    with CacheWriter(folder / str(shards), planned) as writer:
        writer.add_split("train", examples(rows))
        for shard in writer.unfinished("train"):
            held = writer.rows_of("train", shard)
            logits = np.zeros((held.stop - held.start, 2), np.float32)
            writer.write_shard("train", shard, logits, encode_cls(cls[held], "float16", LAYERS))
        writer.finish(told)
    assert derive(read_manifest(folder / str(shards)))["total_bytes"] > 0
    return (folder / str(shards) / "manifest.json").stat().st_size


def test_the_counted_figures_are_those_of_the_format() -> None:
    for place, rows in enumerate(ROWS):
        shape = {"rows": rows, "layers": 12, "hidden": 768, "outputs": 2, "shard_rows": 4096}
        for dtype in ("float16", "int8"):
            specs = array_specs(**shape, dtype=dtype).values()  # type: ignore[arg-type]
            raw = sum(spec.raw_bytes for spec in specs)
            assert size(cells(f"bytes, all layers, {dtype}")[place]) == pytest.approx(raw, rel=0.01)
        two_layers = size(cells("bytes that a student of skip")[place])
        assert two_layers == pytest.approx(rows * 2 * 768 * 2, rel=0.02)
        shards = shard_count(rows, 4096)
        assert cells("shards of 4,096 rows")[place] == f"{shards:,}"
        assert cells("requests")[place] == f"{3 * shards:,}"
        if rows <= 10**8:
            files = len(split_files("train", rows, 4096, "float16")) + 2  # root group, manifest
            assert cells("files: two a shard")[place] == f"{files:,}"


def test_the_manifest_grows_as_the_page_says(tmp_path: Path) -> None:
    of_a_shard = (manifest_bytes(tmp_path, 50) - manifest_bytes(tmp_path, 10)) / 40
    assert of_a_shard == pytest.approx(1100, rel=0.03)
    for place, rows in enumerate(ROWS):
        total = shard_count(rows, 4096) * of_a_shard
        assert size(cells("manifest")[place]) == pytest.approx(total, rel=0.05)
    (limit,) = re.findall(r"limit of ([\d.]+) MB at ([\d.]+) x 10\^8 rows", PAGE)
    assert float(limit[0]) == pytest.approx(LARGEST_MANIFEST / 1e6, rel=0.01)
    assert float(limit[1]) * 1e8 == pytest.approx(LARGEST_MANIFEST / of_a_shard * 4096, rel=0.03)
