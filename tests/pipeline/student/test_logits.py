"""Run with: pytest tests/pipeline/student/test_logits.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError
from pipeline.student.logits import logits_parquet, read_logits

LOGITS = np.array([[1.5, -2.0], [0.25, 4.0], [3.0, 3.5]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two splits of one task."""
    target = tmp_path / "logits.parquet"
    parts = [("matched", [7, 3], LOGITS[:2]), ("mismatched", [7], LOGITS[2:])]
    target.write_bytes(logits_parquet(parts))
    return target


def test_a_split_comes_back_as_it_was_written(path: Path) -> None:
    assert (read_logits(path, "matched", [7, 3], 2) == LOGITS[:2]).all()
    assert (read_logits(path, "mismatched", [7], 2) == LOGITS[2:]).all()
    assert read_logits(path, "matched", [7, 3], 2).dtype == np.float32


@pytest.mark.parametrize(
    ("split", "ids", "outputs", "reason"),
    [
        ("matched", [3, 7], 2, "of other rows than the 2 matched rows"),
        ("matched", [7], 2, "of other rows"),
        ("absent", [7, 3], 2, "of other rows"),
        ("matched", [7, 3], 3, "not 3 logits"),
    ],
)
def test_logits_of_other_rows_are_refused(
    path: Path, split: str, ids: list[int], outputs: int, reason: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_logits(path, split, ids, outputs)
    assert reason in str(caught.value)
    assert str(path.parent) not in str(caught.value)


def columns(**changes: Any) -> dict[str, Any]:
    plain = {
        "split": pa.array(["matched"]),
        "example_id": pa.array([7], pa.int64()),
        "logits": pa.array([[1.0, 2.0]], pa.list_(pa.float32())),
    }
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"logits": pa.array(["high"])}, "has the columns split string"),
        ({"more": pa.array([1])}, "has the columns"),
        ({"logits": pa.array([None], pa.list_(pa.float32()))}, "not 2 logits"),
        ({"logits": pa.array([[1.0, np.nan]], pa.list_(pa.float32()))}, "not finite"),
        ({"logits": pa.array([[1.0, None]], pa.list_(pa.float32()))}, "not finite"),
        ({"split": pa.array([None], pa.string())}, "of other rows"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    pq.write_table(pa.table(columns(**changes)), tmp_path / "x.parquet")
    with pytest.raises(DataError) as caught:
        read_logits(tmp_path / "x.parquet", "matched", [7], 2)
    assert reason in str(caught.value)


def test_no_file_and_no_parquet_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no x\.parquet"):
        read_logits(tmp_path / "x.parquet", "matched", [7], 2)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(DataError, match="not readable Parquet"):
        read_logits(tmp_path / "x.parquet", "matched", [7], 2)
