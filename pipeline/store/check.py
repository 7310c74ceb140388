"""`verify`: every file, every digest, nothing missing and nothing added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CacheCorruptError
from pipeline.progress import Tick, silent
from pipeline.store.arrays import require_group_metadata
from pipeline.store.examples import describe, digests_fit
from pipeline.store.format import EXAMPLES, MANIFEST, METADATA
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.place import Place, place_of
from pipeline.store.reader import TeacherCache


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a cache."""

    file: str
    problem: str


def check_cache(path: Path | str, tick: Tick = silent) -> list[Finding]:
    """Compare everything in a cache with its manifest, in memory of about one shard.

    Args:
        path: a folder, or any fsspec URL.
        tick: told of files and values.

    Returns:
        What is wrong, by file; [] for a sound cache.

    Raises:
        CacheError: there is no cache, or its manifest itself is damaged.
    """
    place = place_of(path)
    manifest = read_manifest(place)
    names = place.names()
    findings = [*_listing(names, manifest), *_files(place, names, manifest, tick)]
    return findings or [*_values(place, manifest, tick)]


def _listing(names: dict[str, bool], manifest: Manifest) -> Iterator[Finding]:
    expected = {MANIFEST, *manifest.files}
    for name, is_plain in sorted(names.items()):
        if name not in expected:
            yield Finding(file=name, problem="is not part of the cache")
        elif not is_plain:
            problem = "is a link or no file; a cache holds plain files (after DVC: `dvc unprotect`)"
            yield Finding(file=name, problem=problem)


def _files(
    place: Place, names: dict[str, bool], manifest: Manifest, tick: Tick
) -> Iterator[Finding]:
    for done, (name, expected) in enumerate(sorted(manifest.files.items())):
        tick("files", done, len(manifest.files))
        size = place.size(name)
        if size is None:
            if name not in names:
                yield Finding(file=name, problem="is missing")
        elif size != expected["size"]:
            yield Finding(file=name, problem=f"has {size} bytes, expected {expected['size']}")
        elif place.digest(name) != expected["sha256"]:
            yield Finding(file=name, problem="has other bytes than were written (sha256)")
    tick("files", len(manifest.files), len(manifest.files))


def _values(place: Place, manifest: Manifest, tick: Tick) -> Iterator[Finding]:
    """Decoded rows against their digests: finds a cache whose manifest was made up."""
    cache = TeacherCache(place, manifest)
    total = len(manifest.splits) * (len(manifest.layers) + 1)
    done = 0
    for name in (METADATA, *(f"{split}/{METADATA}" for split in manifest.splits)):
        try:
            require_group_metadata(place, name)
        except CacheCorruptError as error:
            yield Finding(file=name, problem=str(error))
    for split in manifest.splits:
        for layer in (None, *manifest.layers):
            try:
                if layer is None:
                    yield from _tokens(cache, split)
                else:
                    for _ in cache.shards(split, [layer]):
                        pass  # every value is checked on the way
            except CacheCorruptError as error:
                yield Finding(file=split, problem=str(error))
            done += 1
            tick("values", done, total)


def _tokens(cache: TeacherCache, split: str) -> Iterator[Finding]:
    table, name = cache.examples(split), f"{split}/{EXAMPLES}"
    if describe(table) != cache.manifest.splits[split]:
        yield Finding(file=name, problem="does not match the manifest's counts or digest")
    if not digests_fit(table):
        yield Finding(file=name, problem="has tokens that are not those of their row_digest")
    cache.logits(split)
