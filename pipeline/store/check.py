"""`verify`: every file, every digest, nothing missing and nothing added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import CacheCorruptError
from pipeline.progress import Tick, silent
from pipeline.store.examples import describe, digests_fit
from pipeline.store.format import CLS, EXAMPLES, LOGITS, MANIFEST, METADATA, OUT_OF_FOLD
from pipeline.store.guarded import require_group_metadata
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.place import Place, place_of
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import INT8_LIMIT, Stored

LONGEST_NAME = 250  # characters shown; ours have about 60


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
    sizes = place.sizes()
    findings = [*_listing(sizes, manifest), *_files(place, sizes, manifest, tick)]
    return findings or [*_values(place, manifest, tick)]


def _listing(sizes: dict[str, int | None], manifest: Manifest) -> Iterator[Finding]:
    expected = {MANIFEST, *manifest.files}
    for name, size in sorted(sizes.items()):
        shown = _shown(name)
        if name not in expected:
            yield Finding(file=shown, problem="is not part of the cache")
        elif size is None:
            problem = "is a link or no file; a cache holds plain files (after DVC: `dvc unprotect`)"
            yield Finding(file=shown, problem=problem)


def _shown(name: str) -> str:
    """A name that anyone may have given, fit for a terminal."""
    plain = name if name.isprintable() else ascii(name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[:LONGEST_NAME]}..."


def _files(
    place: Place, sizes: dict[str, int | None], manifest: Manifest, tick: Tick
) -> Iterator[Finding]:
    for done, (name, expected) in enumerate(sorted(manifest.files.items())):
        tick("files", done, len(manifest.files))
        size = sizes.get(name)
        if size is None:
            if name not in sizes:
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
        yield from _caught(name, partial(_group, place, name))
    for split in manifest.splits:
        checks = {f"{split}/{EXAMPLES}": [_tokens], f"{split}/{LOGITS}": [_logits]}
        if cache.has_out_of_fold(split):
            checks[f"{split}/{OUT_OF_FOLD}"] = [_out_of_fold]
        checks[f"{split}/{CLS}"] = [partial(_vectors, layer=layer) for layer in manifest.layers]
        for name, parts in checks.items():
            for check in parts:
                yield from _caught(name, partial(check, cache, split))
                done += check not in (_logits, _out_of_fold)
                tick("values", done, total)


def _caught(name: str, check: Callable[[], Iterator[str]]) -> Iterator[Finding]:
    """The problems that a check yields, and the one that it raises."""
    try:
        for problem in check():
            yield Finding(file=name, problem=problem)
    except CacheCorruptError as error:
        yield Finding(file=name, problem=str(error))


def _group(place: Place, name: str) -> Iterator[str]:
    require_group_metadata(place, name)
    yield from ()


def _tokens(cache: TeacherCache, split: str) -> Iterator[str]:
    table = cache.examples(split)
    if describe(table) != cache.manifest.splits[split]:
        yield "does not match the manifest's counts or digest"
    if not digests_fit(table):
        yield "has tokens that are not those of their row_digest"
    if len(table["example_id"].unique()) != table.num_rows:
        yield "has an example_id twice"


def _logits(cache: TeacherCache, split: str) -> Iterator[str]:
    if not np.isfinite(cache.logits(split)).all():
        yield "has logits that are not finite"


def _out_of_fold(cache: TeacherCache, split: str) -> Iterator[str]:
    if not np.isfinite(cache.out_of_fold(split)).all():
        yield "has logits that are not finite"


def _vectors(cache: TeacherCache, split: str, *, layer: int) -> Iterator[str]:
    for rows, stored in cache.shards(split, [layer]):  # every value is checked on the way
        if not _is_number(stored):
            yield f"layer {layer}, rows {rows.start}..{rows.stop - 1}: values that are not finite"


def _is_number(stored: Stored) -> bool:
    """Whether values are what `encode_cls` makes of numbers."""
    if stored.scale_RL is None:
        return bool(np.isfinite(stored.values_RLH).all())
    scale = stored.scale_RL
    fits = bool(stored.values_RLH.min(initial=0) >= -INT8_LIMIT)
    return fits and bool((np.isfinite(scale) & (scale > 0)).all())
