"""pytest tests/pipeline/predict/test_memory.py - memory does not grow with the number of rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.students import save_student

ROOT = Path(__file__).parents[3]
# rows, more than a window holds, and characters kept of each: 120 MB in ten times the rows
CASES = [("csv", 500, 24_000), ("parquet", 2000, 6000)]
SLACK_MB = 40  # of the allocator

# run by a fresh interpreter, whose only child is the command
MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "stages.student", "predict", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peak_mb(folder: Path, source: Path, out: Path) -> float:
    arguments = [str(folder), str(source), "--out", str(out), "--quiet", "--keep", "kept"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    return float(found.stdout.splitlines()[-1])


def write(path: Path, rows: int, kept_characters: int) -> Path:
    texts = [f"w{n % 60}" for n in range(rows)]
    kept = [f"{n} {'x' * kept_characters}" for n in range(rows)]
    if path.suffix == ".parquet":
        table = pa.table({"text": texts, "kept": kept})
        pq.write_table(table, path, use_dictionary=False, row_group_size=rows, compression="none")
    else:
        lines = (f"{text},{more}\n" for text, more in zip(texts, kept, strict=True))
        path.write_text("text,kept\n" + "".join(lines))
    return path


@pytest.mark.soak_only
@pytest.mark.parametrize(("kind", "few", "kept"), CASES)
def test_ten_times_the_rows_take_the_same_memory(
    kind: str, few: int, kept: int, tmp_path: Path
) -> None:
    """Of Parquet, all rows are one row group."""
    folder = save_student(tmp_path / "s", task="own", text_columns=["text"], max_length=8)
    peaks = [
        peak_mb(folder, write(tmp_path / f"{n}.{kind}", n, kept), tmp_path / f"out{n}.{kind}")
        for n in (few, 10 * few)
    ]
    assert peaks[1] < peaks[0] + SLACK_MB, peaks
