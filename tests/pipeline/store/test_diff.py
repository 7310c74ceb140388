"""pytest tests/pipeline/store/test_diff.py - what differs between two caches, and by how much."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.caching.exactness import measure_errors
from pipeline.errors import CacheCorruptError
from pipeline.store.diff import Difference, diff_caches
from pipeline.store.distance import cosine_distance, relative_l2
from pipeline.store.pairs import pair_rows
from pipeline.store.reader import TeacherCache
from tests.support.synthetic import LAYERS, ROWS, described, examples, values
from tests.support.tables import Values, table_of, write_table
from tests.support.tiny import World


def build(
    target: Path,
    rows: Sequence[int] = range(ROWS),
    *,
    table: pa.Table | None = None,
    given: Values | None = None,
    **changes: Any,
) -> TeacherCache:
    """A cache of some of the made-up rows, in any order; row n keeps the values of row n."""
    logits, cls = given or values()
    chosen = list(rows)
    of_rows = (table or examples()).take(chosen)
    return write_table(target, of_rows, (logits[chosen], cls[chosen]), **changes)


@pytest.fixture
def a(tmp_path: Path) -> TeacherCache:
    return build(tmp_path / "a.zarr", dtype="float32")


def changed(column: str, row: int, value: Any) -> pa.Table:
    """The made-up rows with one value replaced."""
    table = examples()
    content = table[column].to_pylist()
    content[row] = value
    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(place), pa.array(content, table[column].type))


def test_distances_worked_by_hand() -> None:
    one = np.array([[3, 4], [1, 0], [0, 0], [0, 0], [2, 0]], "f4")
    other = np.array([[3, 0], [0, 1], [0, 0], [1, 1], [-2, 0]], "f2")
    assert relative_l2(one, other).tolist() == pytest.approx([0.8, math.sqrt(2), 0, 1, 2])
    assert cosine_distance(one, other).tolist() == pytest.approx([0.4, 1, 0, 0, 2])


def test_distances_are_those_of_a_build() -> None:
    (logits, exact), scale = values(), np.float32(1.01)
    errors = measure_errors(logits, exact, logits, exact[::-1] * scale)
    far = relative_l2(exact, exact[::-1] * scale), cosine_distance(exact, exact[::-1] * scale)
    for name, found in zip(("relative_l2", "cosine_distance"), far, strict=True):
        np.testing.assert_allclose(errors[f"{name}_max"], found.max(0), rtol=1e-12)
        np.testing.assert_allclose(errors[f"{name}_sum"], found.sum(0), rtol=1e-12)


def test_a_copy_is_identical(a: TeacherCache, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    shutil.rmtree(tmp_path / "b.zarr" / "train" / "cls")  # only the manifests are read
    found = diff_caches(a, TeacherCache.open(tmp_path / "b.zarr"))
    empty = Difference(
        identical=True, fields={}, splits={}, splits_only_a=(), splits_only_b=(), layers={},
        not_compared=(),
    )  # fmt: skip
    assert found == empty


def angle_distance(u: list[float], v: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(u, v, strict=True))
    return 1 - dot / (math.hypot(*u) * math.hypot(*v))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_values_of_another_type(a: TeacherCache, tmp_path: Path, dtype: str) -> None:
    b = build(tmp_path / "b.zarr", dtype=dtype, shard_rows=5, layers=LAYERS)
    found = diff_caches(a, b)
    assert found.fields["stored type"] == ("float32", dtype)
    assert set(found.fields) == {"stored type", "rows per shard", "content"}
    exact, stored = values()[1].tolist(), b.cls("train", LAYERS).tolist()
    for place, layer in enumerate(LAYERS):
        pairs = [(exact[row][place], stored[row][place]) for row in range(ROWS)]
        far = [math.dist(u, v) / math.hypot(*u) for u, v in pairs]
        angles = [angle_distance(u, v) for u, v in pairs]
        seen = found.layers[layer]
        assert seen.relative_l2_max == pytest.approx(max(far))
        assert seen.relative_l2_mean == pytest.approx(math.fsum(far) / ROWS)
        assert seen.cosine_distance_max == pytest.approx(max(angles), rel=1e-6)
        assert seen.cosine_distance_mean == pytest.approx(math.fsum(angles) / ROWS, rel=1e-6)
        assert seen.relative_l2_max > 1e-5
    split = found.splits["train"]
    assert (split.rows_both, split.moved, split.logits_abs_max, split.classes_changed) == (
        ROWS, 0, 0.0, 0,
    )  # fmt: skip


def test_rows_in_another_order_some_gone_and_some_new(a: TeacherCache, tmp_path: Path) -> None:
    """Rows of this draw repeat each other, so the sets are counted by hand."""
    order = [int(row) for row in np.random.default_rng(5).permutation(ROWS)]
    one = build(tmp_path / "one.zarr", order[:30], dtype="float32")
    other = build(tmp_path / "other.zarr", order[:3:-1], dtype="float32")
    found = diff_caches(one, other).splits["train"]
    digests = examples()["row_digest"].to_pylist()
    in_a, in_b = ([digests[row] for row in rows] for rows in (order[:30], order[:3:-1]))
    both = sum(min(in_a.count(each), in_b.count(each)) for each in set(digests))
    assert both >= 26
    assert (found.rows_a, found.rows_b, found.rows_both) == (30, 33, both)
    assert (found.only_a, found.only_b) == (30 - both, 33 - both)
    assert found.moved >= both - 1
    whole = diff_caches(a, build(tmp_path / "whole.zarr", order, dtype="float32"))
    assert whole.splits["train"].rows_both == ROWS
    assert whole.splits["train"].labels_changed == 0


def test_values_follow_their_rows_wherever_those_are(tmp_path: Path) -> None:
    unique = list({digest: row for row, digest in enumerate(digests_of(examples()))}.values())
    logits, cls = values()
    cls2, logits2 = cls.copy(), logits.copy()
    cls2[unique[4], 1] *= 3  # layer 3: twice its length away, at no angle
    logits2[unique[6]] = logits[unique[6]][::-1]
    one = build(tmp_path / "one.zarr", unique, dtype="float32")
    other = build(tmp_path / "other.zarr", unique[::-1], given=(logits2, cls2), dtype="float32")
    found = diff_caches(one, other)
    far = {layer: found.layers[layer].relative_l2_max for layer in LAYERS}
    assert far == {2: 0.0, 3: pytest.approx(2.0), 7: 0.0}
    assert found.layers[3].relative_l2_mean == pytest.approx(2 / len(unique))
    assert found.layers[3].cosine_distance_max == pytest.approx(0, abs=1e-12)
    split = found.splits["train"]
    assert split.classes_changed == 1
    gap = abs(float(logits[unique[6], 0]) - float(logits[unique[6], 1]))
    assert split.logits_abs_max == pytest.approx(gap)


def digests_of(table: pa.Table) -> list[bytes]:
    found: list[bytes] = table["row_digest"].to_pylist()
    return found


def test_labels_and_ids_that_changed(a: TeacherCache, tmp_path: Path) -> None:
    label = examples()["label"][3].as_py()
    b = build(tmp_path / "b.zarr", table=changed("label", 3, 1 - label), dtype="float32")
    c = build(tmp_path / "c.zarr", table=changed("label", 3, None), dtype="float32")
    d = build(tmp_path / "d.zarr", table=changed("example_id", 3, 5000), dtype="float32")
    for other, labels, ids in ((b, 1, 0), (c, 1, 0), (d, 0, 1)):
        split = diff_caches(a, other).splits["train"]
        assert (split.labels_changed, split.ids_changed, split.rows_both) == (labels, ids, ROWS)
        assert split.logits_abs_max == 0


def rows_of(*rows: tuple[bytes, Any]) -> pa.Table:
    """Digests and labels alone."""
    return pa.table(
        {
            "example_id": pa.array(range(len(rows)), pa.int64()),
            "row_digest": pa.array([digest for digest, _ in rows], pa.binary(1)),
            "label": pa.array([label for _, label in rows], pa.int64()),
        }
    )


def test_repeated_rows_are_paired_by_label_first() -> None:
    one = rows_of((b"x", 0), (b"x", 1), (b"x", None), (b"y", 1))
    other = rows_of((b"x", 1), (b"y", 0), (b"x", 2), (b"z", 0))
    pairs = pair_rows(one, other)
    # 1 with 0 for their label, 0 with 2 for want of another; 2 stays alone, y got another label
    assert (pairs.a_P.tolist(), pairs.b_P.tolist()) == ([0, 1, 3], [2, 0, 1])
    assert (pairs.labels_changed, pairs.ids_changed) == (2, 3)
    none = pair_rows(one, rows_of((b"q", 0)))
    assert (len(none), none.labels_changed, none.ids_changed) == (0, 0, 0)


def test_what_cannot_be_compared_is_said(a: TeacherCache, tmp_path: Path) -> None:
    logits, cls = values()
    wide = build(
        tmp_path / "wide.zarr", given=(logits, np.tile(cls, 2)), hidden_size=10, dtype="float32"
    )
    found = diff_caches(a, wide)
    assert found.not_compared == ("[CLS]: hidden sizes are 5 and 10",)
    assert found.layers == {}
    assert found.splits["train"].logits_abs_max == 0
    task = described()["task"] | {"label_names": ["not_entailment", "entailment"]}
    turned = diff_caches(a, build(tmp_path / "turned.zarr", fields={"task": task}))
    assert turned.not_compared == ("logits: the labels are others, or in another order",)
    assert turned.splits["train"].logits_abs_max is None
    assert turned.splits["train"].classes_changed is None
    assert turned.fields["labels"][1] == ["not_entailment", "entailment"]
    assert set(turned.layers) == set(LAYERS)


def test_layers_that_only_one_has(a: TeacherCache, tmp_path: Path) -> None:
    logits, cls = values()
    some = build(tmp_path / "some.zarr", given=(logits, cls[:, 1:]), layers=(3, 7), dtype="float32")
    found = diff_caches(a, some)
    assert {layer: each.relative_l2_max for layer, each in found.layers.items()} == {3: 0, 7: 0}
    assert found.fields["layers"] == ([2, 3, 7], [3, 7])
    other = build(tmp_path / "other.zarr", given=(logits, cls[:, :2]), layers=(1, 5))
    assert diff_caches(a, other).not_compared == ("[CLS]: no layer is in both",)


def test_no_row_and_no_split_in_common(a: TeacherCache, tmp_path: Path) -> None:
    others = table_of([[8] * 8] * 4, [0, 1, 0, 1])  # the made-up ones have at most 7 tokens
    one = build(tmp_path / "one.zarr", range(4), table=others, dtype="float32")
    found = diff_caches(a, one)
    assert found.splits["train"].rows_both == 0
    assert found.splits["train"].only_b == 4
    assert found.layers == {}
    reason = "values: no row is in both; the texts are others, or tokenised in another way"
    assert found.not_compared == (reason,)
    elsewhere = build(tmp_path / "two.zarr", splits=["validation"])
    found = diff_caches(a, elsewhere)
    assert (found.splits, found.splits_only_a, found.splits_only_b) == (
        {}, ("train",), ("validation",),
    )  # fmt: skip
    assert found.not_compared == (reason,)


def test_damage_is_an_error_and_never_a_difference(a: TeacherCache, tmp_path: Path) -> None:
    b = build(tmp_path / "b.zarr", dtype="float16")
    shard = tmp_path / "b.zarr" / "train" / "cls" / "c" / "2" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    with pytest.raises(CacheCorruptError):
        diff_caches(a, b)


def test_two_real_caches(world: World) -> None:
    ticks: list[tuple[str, int, int]] = []
    found = diff_caches(
        TeacherCache.open(world.cache),
        TeacherCache.open(world.cache16),
        lambda what, done, total, **_: ticks.append((what, done, total)),
    )
    assert list(found.splits) == ["train", "validation", "test"]
    assert set(found.fields) == {"stored type", "cache id", "content"}
    assert ticks[0] == ("layers", 0, 4)
    assert ticks[-1] == ("layers", 4, 4)
    # float16 keeps 11 bits: every coordinate, and so the length, is within 2^-11 of the value
    assert all(0 < each.relative_l2_max <= 2**-11 for each in found.layers.values())
    assert json.loads(json.dumps(found.to_dict()))["splits"]["train"]["rows_both"] == 150
