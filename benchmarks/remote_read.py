"""What a student fetches from S3: requests, bytes and seconds by the number of layers it reads.

    python -m benchmarks.remote_read --rows 8192 --layers 12 --hidden 256

The S3 is moto on this machine: requests and bytes are those of any S3, seconds are not (no network
lies between, and moto is slow). The values are random, which zstd cannot compress.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import synthetic_cache
from pipeline.store.check import check_cache
from pipeline.store.copy import copy_cache
from pipeline.store.place import place_of
from pipeline.store.reader import TeacherCache
from pipeline.store.remote import RemotePlace
from tests.support.s3 import local_s3


def read(url: str, layers: tuple[int, ...]) -> RemotePlace:
    """Fetch what `pkd-student fit` fetches of one split: tokens, logits, some layers."""
    cache = TeacherCache.open(url)
    cache.examples("train")
    cache.logits("train")
    cache.stored("train", layers)
    assert isinstance(cache.place, RemotePlace)
    return cache.place


def verify(url: str) -> RemotePlace:
    """Fetch everything, as `pkd-cache verify` does."""
    place: Any = place_of(url)
    assert check_cache(place) == []
    assert isinstance(place, RemotePlace)
    return place


def table(url: str, folder: Path, layers: int) -> None:
    """Measure and print."""
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{'':<22}{'requests':>9}{'MB':>9}{'of the cache':>14}{'seconds':>9}")
    counts = [count for count in (0, 1, 2, layers // 2, layers) if count <= layers]
    steps = {f"{n} of {layers} layers": tuple(range(1, n + 1)) for n in dict.fromkeys(counts)}
    for name, chosen in {**steps, "verify": None}.items():
        start = time.perf_counter()
        place = verify(url) if chosen is None else read(url, chosen)
        seconds, share = time.perf_counter() - start, place.received_bytes / whole
        size = place.received_bytes / 1e6
        print(f"{name:<22}{place.requests:>9,}{size:>9.2f}{share:>14.1%}{seconds:>9.2f}")


def main() -> None:
    """Make a cache, copy it to S3 and back, read it in parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"rows": 8192, "layers": 12, "hidden": 256, "length": 64, "shard-rows": 1024}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        folder = Path(root) / "c.zarr"
        synthetic_cache(
            folder, rows=given.rows, layers=given.layers, hidden=given.hidden,
            length=given.length, shard_rows=given.shard_rows,
        )  # fmt: skip
        with local_s3(patch) as s3:
            for source, target in ((folder, s3.url("c")), (s3.url("c"), Path(root) / "back.zarr")):
                done = copy_cache(source, target)
                size, rate = done.copied_bytes / 1e6, done.copied_bytes / 1e6 / done.seconds
                print(f"copied {done.copied_files} files, {size:.1f} MB, at {rate:.0f} MB/s")
            table(s3.url("c"), folder, given.layers)


if __name__ == "__main__":
    main()
