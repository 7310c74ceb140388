"""pytest tests/pipeline/store/test_round_trip.py - what is written is what is read.

Shapes: R rows, L layers, H hidden size, K outputs. Values are drawn from a seed, and some of them
are replaced by hard ones: zeros, denormals, the limits of float16.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import CacheCorruptError, CacheError, CacheMismatchError
from pipeline.store.check import check_cache
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import encode_cls
from tests.support.hostile import write_values
from tests.support.synthetic import described, examples

EXAMPLES = 250 if os.environ.get("PKD_SOAK") else 20
LIMIT16 = 65504.0  # the largest float16
TINY16, TINY32 = 2.0**-24, 2.0**-149  # the smallest above 0
HARD = (0.0, -0.0, LIMIT16, -LIMIT16, TINY16, TINY16 / 2, TINY32, 1e-40, 1.0, 2048.5, 1e-7)

Array = np.ndarray[Any, Any]

property_test = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk() -> Iterator[None]:
    """What a power cut leaves is not the matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cache to write."""

    rows: int
    shard_rows: int
    layers: tuple[int, ...]
    hidden: int
    outputs: int
    dtype: str
    seed: int = 0
    hard_share: float = 0.2
    """Of the values, replaced by hard ones; of the vectors, replaced by zeros."""

    def values(self) -> tuple[Array, Array]:
        """Logits (R, K) and vectors (R, L, H), float32."""
        draw = np.random.default_rng(self.seed)
        shape = (self.rows, len(self.layers), self.hidden)
        logits = draw.normal(size=(self.rows, self.outputs)).astype("f4")
        cls = (draw.normal(size=shape) * 10.0 ** draw.integers(-9, 4, shape)).astype("f4")
        hard = draw.random(shape) < self.hard_share
        cls[hard] = draw.choice(HARD, hard.sum())
        cls[draw.random(shape[:2]) < self.hard_share / 2] = 0
        return logits, cls

    def write(self, target: Path) -> tuple[Array, Array]:
        """Write the cache through the writer; returns the exact values."""
        logits, cls = self.values()
        fields = described(self.layers)
        fields["task"]["label_names"] = [f"l{k}" for k in range(self.outputs)]
        fields["teacher"] |= {"layers": max(self.layers), "output_order": [*range(self.outputs)]}
        table = examples(self.rows)
        if self.outputs == 1:
            fields["task"] |= {"label_names": [], "metrics": ["spearman"]}
            column = table.schema.get_field_index("label")
            table = table.set_column(column, "label", table["label"].cast(pa.float64()))
        stored = encode_cls(cls, self.dtype, self.layers)
        write_values(
            target, table, logits, stored, fields,
            layers=self.layers, dtype=self.dtype, shard_rows=self.shard_rows,
        )  # fmt: skip
        return logits, cls


def layer_sets() -> st.SearchStrategy[tuple[int, ...]]:
    """Layers of a teacher of up to 24."""
    some = st.sets(st.integers(1, 24), min_size=1, max_size=5)
    return some.map(lambda layers: tuple(sorted(layers)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Of at most ten shards."""
    rows = draw(st.integers(1, 70))
    return Case(
        rows=rows,
        shard_rows=draw(st.integers(-(-rows // 10), 80)),
        layers=draw(layer_sets()),
        hidden=draw(st.integers(1, 9)),
        outputs=draw(st.integers(1, 4)),
        dtype=draw(st.sampled_from(("float32", "float16", "int8"))),
        seed=draw(st.integers(0, 1 << 32)),
        hard_share=draw(st.sampled_from((0.0, 0.2, 1.0))),
    )


def case(rows: int, shard_rows: int, dtype: str, **more: Any) -> Case:
    """A case worked out by hand."""
    fields: dict[str, Any] = {"layers": (3, 5), "hidden": 4, "outputs": 2} | more
    return Case(rows=rows, shard_rows=shard_rows, dtype=dtype, **fields)


def require_stored(exact_RLH: Array, read_RLH: Array, dtype: str) -> None:
    """What each type promises, by numpy alone."""
    if dtype == "float32":
        assert read_RLH.tobytes() == exact_RLH.tobytes()  # -0.0 too
    elif dtype == "float16":
        assert read_RLH.tobytes() == exact_RLH.astype(np.float16).tobytes()
    else:
        require_int8(exact_RLH, read_RLH)


def require_int8(exact_RLH: Array, read_RLH: Array) -> None:
    """Every value within half a step, a step being a 127th of the vector's largest value.

    Computed in float64, by way of the exact quotient: not the formula of `encode_cls`.
    """
    assert read_RLH.dtype == np.float32
    for exact_H, read_H in zip(_vectors(exact_RLH), _vectors(read_RLH), strict=True):
        largest = max(abs(float(value)) for value in exact_H)
        step = float(np.float32(np.float32(largest) / np.float32(127)))
        if step == 0:  # zeros, or so near that a step of it is no float32
            assert largest < 127 * TINY32
            assert not read_H.any()
            continue
        for exact, read in zip(exact_H, read_H, strict=True):
            levels = float(read) / step
            assert levels == pytest.approx(round(levels), rel=1e-6)
            assert abs(round(levels)) <= 127
            # a step that is denormal is rounded itself: 127 of it may fall short of the largest
            slack = 0.5 * step * (1 + 1e-5) + 127 * TINY32
            assert abs(float(exact) - float(read)) <= slack


def _vectors(values_RLH: Array) -> Array:
    return values_RLH.reshape(-1, values_RLH.shape[-1]).astype(np.float64)


@property_test
@given(cases())
@example(case(1, 1, "float32"))
@example(case(1, 80, "int8"))
@example(case(8, 8, "float16"))
@example(case(9, 8, "float16"))
@example(case(7, 8, "int8"))
@example(case(16, 8, "int8", hard_share=1.0))
@example(case(20, 1, "float32", hidden=1, outputs=1, layers=(24,)))
def test_what_is_written_is_what_is_read(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.zarr")
        logits, cls = case.write(path)
        cache = TeacherCache.open(path)
        assert cache.logits("train").tobytes() == logits.tobytes()
        require_stored(cls, cache.cls("train", case.layers), case.dtype)
        assert cache.examples("train")["input_ids"].equals(examples(case.rows)["input_ids"])
        assert check_cache(path) == []
        assert len(read_manifest(path).row_digests["train"]["cls"]) == -(
            -case.rows // case.shard_rows
        )


@property_test
@given(case=cases(), data=st.data())
def test_any_layers_in_any_order_in_memory_or_on_disk(case: Case, data: st.DataObject) -> None:
    """A subset, permuted: the same numbers as all layers give, and as a memory map gives."""
    wanted = data.draw(st.permutations(case.layers)).copy()
    wanted = wanted[: data.draw(st.integers(1, len(wanted)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.zarr")
        case.write(path)
        cache = TeacherCache.open(path)
        whole = cache.cls("train", case.layers)
        places = [case.layers.index(layer) for layer in wanted]
        assert cache.cls("train", wanted).tobytes() == whole[:, places].tobytes()
        mapped = cache.stored("train", wanted, budget_bytes=0)
        assert isinstance(mapped.values_RLH, np.memmap)
        assert np.asarray(mapped.decode()).tobytes() == whole[:, places].tobytes()
        pieces = [(rows, piece.decode()) for rows, piece in cache.shards("train", wanted)]
        stops = [min(start + case.shard_rows, case.rows)
                 for start in range(0, case.rows, case.shard_rows)]  # fmt: skip
        assert [rows.stop for rows, _ in pieces] == stops
        joined = np.concatenate([piece for _, piece in pieces])
        assert joined.tobytes() == whole[:, places].tobytes()


@property_test
@given(case=cases(), place=st.integers(0, 10**6), value=st.sampled_from((65520.0, 1e38, -7e4)))
def test_a_value_beyond_float16_is_an_error_that_names_the_layer(
    case: Case, place: int, value: float
) -> None:
    """65504 is the largest; from 65520 on numpy would give infinity."""
    _, cls = case.values()
    at = np.unravel_index(place % cls.size, cls.shape)
    cls[at] = value
    layer = case.layers[int(at[1])]
    with pytest.raises(CacheError, match=rf"^Layer {layer} has values up to .*, beyond float16"):
        encode_cls(cls, "float16", case.layers)
    assert np.isfinite(encode_cls(cls, "float32", case.layers).values_RLH).all()
    assert encode_cls(cls, "int8", case.layers).scale_RL is not None


@property_test
@given(
    case=cases(),
    place=st.integers(0, 10**6),
    value=st.sampled_from((float("nan"), float("inf"), -float("inf"))),
)
def test_a_value_that_is_no_number_is_an_error_in_every_type(
    case: Case, place: int, value: float
) -> None:
    _, cls = case.values()
    at = np.unravel_index(place % cls.size, cls.shape)
    cls[at] = value
    with pytest.raises(CacheError, match=f"^Layer {case.layers[int(at[1])]}: the teacher gave NaN"):
        encode_cls(cls, case.dtype, case.layers)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_vectors_of_nothing_but_zeros(tmp_path: Path, dtype: str) -> None:
    """The fill value of int8 is 0: a shard of zeros must be written all the same."""
    made = case(9, 4, dtype, hard_share=2.0)
    _, cls = made.write(tmp_path / "c.zarr")
    assert not cls.any()
    cache = TeacherCache.open(tmp_path / "c.zarr")
    assert not cache.cls("train", (5, 3)).any()
    assert check_cache(tmp_path / "c.zarr") == []
    sizes = cache.manifest.arrays["train/cls"]["layer_bytes"]
    assert all(0 < size < 1000 for size in sizes)


def test_the_scale_of_int8_worked_by_hand() -> None:
    """254 -> scale 2: 254, -127, 3, 1 become 127, -64 (half to even), 2, 0."""
    vector = np.array([[[254, -127, 3, 1]]], "f4")
    stored = encode_cls(vector, "int8", (1,))
    assert stored.scale_RL is not None
    assert stored.scale_RL.tolist() == [[2.0]]
    assert stored.values_RLH.tolist() == [[[127, -64, 2, 0]]]
    assert stored.decode().tolist() == [[[254, -128, 4, 0]]]


@pytest.mark.parametrize("value", [65504.0, 65519.0, -65519.0])
def test_a_value_at_the_limit_of_float16(value: float) -> None:
    """65519 is beyond 65504 and would round to it; it is refused, which costs nothing."""
    vector = np.full((1, 1, 1), value, "f4")
    if abs(value) <= LIMIT16:
        assert encode_cls(vector, "float16", (1,)).values_RLH[0, 0, 0] == value
    else:
        with pytest.raises(CacheError, match="Layer 1 has values up to 6.552e"):
            encode_cls(vector, "float16", (1,))


def test_a_shard_of_one_border_is_not_that_of_another(tmp_path: Path) -> None:
    """The same values with other shards: other files, the same numbers, no mixing of the two."""
    for shard_rows in (3, 4):
        case(12, shard_rows, "float32").write(tmp_path / f"{shard_rows}.zarr")
    read = [TeacherCache.open(tmp_path / f"{size}.zarr").cls("train", (3, 5)) for size in (3, 4)]
    np.testing.assert_array_equal(read[0], read[1])
    taken = (tmp_path / "3.zarr/train/cls/c/0/0/0").read_bytes()
    (tmp_path / "4.zarr/train/cls/c/0/0/0").write_bytes(taken)
    with pytest.raises(CacheCorruptError, match="verify"):
        TeacherCache.open(tmp_path / "4.zarr").cls("train", (3,))
    with pytest.raises(CacheMismatchError, match="layer 4 is not cached"):
        TeacherCache.open(tmp_path / "4.zarr").cls("train", (4,))
