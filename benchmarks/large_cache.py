"""A cache of 2 GB, of MNLI's shape with fewer rows: peak memory of building, verifying, reading.

    make bench-large      or: python -m benchmarks.large_cache --rows 110000

Each step is a process of its own, so that its peak is its own. "over import" is what it needs
beyond the libraries it loads. The values are random, which zstd cannot compress: the slowest case.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic import synthetic_cache

LAYERS, HIDDEN, LENGTH, SHARD_ROWS = 12, 768, 64, 4096
STEPS = ("build", "verify", "read 1 layer", "read 5 layers", "read 5 layers, memory map", "stream")


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_step(step: str, path: Path, rows: int) -> dict[str, float]:
    """Do one step; returns its seconds and peaks."""
    import pyarrow as pa  # noqa: F401 - loaded first, to tell libraries and work apart

    from pipeline.store.check import check_cache
    from pipeline.store.reader import TeacherCache

    before, start = peak_mb(), time.perf_counter()
    if step == "build":
        synthetic_cache(
            path, rows=rows, layers=LAYERS, hidden=HIDDEN, length=LENGTH, shard_rows=SHARD_ROWS
        )
    elif step == "verify":
        assert check_cache(path) == []
    elif step == "stream":
        assert sum(len(piece) for _, piece in TeacherCache.open(path).shards("train", [4])) == rows
    else:
        layers = [8] if "1 layer" in step else [2, 4, 6, 8, 10]
        budget = 0 if "map" in step else None
        assert len(TeacherCache.open(path).stored("train", layers, budget)) == rows
    return {"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "before_mb": before}


def main() -> None:
    """Run all steps on one cache and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=110_000)
    parser.add_argument("--step", nargs=2, metavar=("CACHE", "STEP"))
    given = parser.parse_args()
    if given.step:
        print(json.dumps(run_step(given.step[1], Path(given.step[0]), given.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.zarr"
        print(f"{'step':<28}{'seconds':>9}{'peak MB':>9}{'over import':>13}")
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.large_cache", "--rows", str(given.rows)]
            found = subprocess.run(
                [*command, "--step", str(path), step], capture_output=True, text=True, check=True
            )
            result = json.loads(found.stdout)
            over = result["peak_mb"] - result["before_mb"]
            print(f"{step:<28}{result['seconds']:>9.1f}{result['peak_mb']:>9.0f}{over:>13.0f}")
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"{given.rows:,} rows x {LAYERS} layers x {HIDDEN}, float16: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
