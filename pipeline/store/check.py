"""`verify`: every file, every digest, nothing missing and nothing added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.digests import digest_file
from pipeline.errors import CacheCorruptError
from pipeline.progress import Tick, silent
from pipeline.store.examples import describe
from pipeline.store.format import MANIFEST, array_files
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.reader import TeacherCache


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a cache."""

    file: str
    problem: str


def check_cache(path: Path, tick: Tick = silent) -> list[Finding]:
    """Compare everything in a cache with its manifest.

    Returns:
        What is wrong, by file; [] for a sound cache.

    Raises:
        CacheError: there is no cache, or its manifest itself is damaged.
    """
    manifest = read_manifest(path)
    findings = [*_listing(path, manifest), *_files(path, manifest, tick)]
    return findings or [*_values(path, manifest, tick)]


def _listing(path: Path, manifest: Manifest) -> Iterator[Finding]:
    expected = {MANIFEST, "zarr.json"}
    for split, info in manifest.splits.items():
        expected.update(array_files(split, info.rows, manifest.shard_rows))
    if set(manifest.files) != expected - {MANIFEST}:
        yield Finding(file=MANIFEST, problem="does not list the files of its own splits")
    found = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if not p.is_dir()}
    for name in sorted(found.keys() - expected):
        yield Finding(file=name, problem="is not part of the cache")
    for name in sorted(name for name in found if found[name].is_symlink()):
        yield Finding(file=name, problem="is a link; a cache holds plain files")


def _files(path: Path, manifest: Manifest, tick: Tick) -> Iterator[Finding]:
    for done, (name, expected) in enumerate(sorted(manifest.files.items())):
        tick("files", done, len(manifest.files))
        file = path / name
        if not file.is_file():
            yield Finding(file=name, problem="is missing")
        elif (size := file.stat().st_size) != expected["size"]:
            yield Finding(file=name, problem=f"has {size} bytes, expected {expected['size']}")
        elif digest_file(file) != expected["sha256"]:
            yield Finding(file=name, problem="has other bytes than were written (sha256)")
    tick("files", len(manifest.files), len(manifest.files))


def _values(path: Path, manifest: Manifest, tick: Tick) -> Iterator[Finding]:
    """Decoded rows against their digests: finds a cache whose manifest was made up."""
    cache = TeacherCache(path, manifest)
    total = len(manifest.splits) * (len(manifest.layers) + 1)
    done = 0
    for split in manifest.splits:
        for layer in (None, *manifest.layers):
            try:
                if layer is None:
                    if describe(cache.examples(split)) != manifest.splits[split]:
                        problem = "does not match the manifest's counts or digest"
                        yield Finding(file=f"{split}/examples.arrow", problem=problem)
                    cache.logits(split)
                else:
                    cache.cls(split, [layer])
            except CacheCorruptError as error:
                yield Finding(file=split, problem=str(error))
            done += 1
            tick("values", done, total)
