"""Rows of an earlier cache of the same teacher, taken over instead of computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import CacheMismatchError
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.stored import Stored, empty_stored, encode_cls

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Wanted:
    """What the rows must be worth: the teacher and the type of a build."""

    teacher_digest: str
    output_order: tuple[int, ...]
    compute: str
    layers: tuple[int, ...]
    dtype: str


def require_reusable(manifest: Manifest, wanted: Wanted, where: str) -> None:
    """Raise CacheMismatchError when rows of a cache are not what a build would compute."""
    old = {
        "teacher": manifest.teacher["digest"],
        "output order": tuple(manifest.teacher["output_order"]),
        "compute": manifest.compute,
    }
    new = {
        "teacher": wanted.teacher_digest,
        "output order": wanted.output_order,
        "compute": wanted.compute,
    }
    for field, value in old.items():
        if value != new[field]:
            raise CacheMismatchError(
                f"--reuse {where}: its {field} is {str(value)[:12]}, this build has "
                f"{str(new[field])[:12]}; its rows are of no use here. Leave --reuse out."
            )
    if missing := sorted(set(wanted.layers) - set(manifest.layers)):
        names = ",".join(str(layer) for layer in missing)
        raise CacheMismatchError(
            f"--reuse {where}: it lacks layers {names}, and a row is reused whole. Leave --reuse "
            "out, or ask for layers that it has with --layers."
        )
    if manifest.dtype not in (wanted.dtype, "float32"):
        raise CacheMismatchError(
            f"--reuse {where}: stored as {manifest.dtype}, which {wanted.dtype} cannot be made of "
            f"without the error of both. Build with --dtype {manifest.dtype}, or leave --reuse out."
        )


class EarlierRows:
    """Finds rows by what the teacher reads, wherever they stood.

    Promises: values are those of the earlier cache, every digest checked; a float32 cache is
    converted exactly as fresh values would be. Does not: look at labels or ids.
    """

    def __init__(self, path: Path | str, wanted: Wanted) -> None:
        self.cache = TeacherCache.open(path)
        require_reusable(self.cache.manifest, wanted, self.cache.text)
        self._wanted = wanted
        self._place: dict[bytes, tuple[str, int]] = {}
        for split in self.cache.splits:
            for row, digest in enumerate(self.cache.examples(split)["row_digest"].to_pylist()):
                self._place.setdefault(digest, (split, row))
        self._loaded: dict[str, tuple[Array, Stored]] = {}

    def holds(self, digests: Sequence[bytes]) -> Array:
        """(R,) bool: which rows are there."""
        return np.array([digest in self._place for digest in digests], bool)

    def values(self, digests: Sequence[bytes]) -> tuple[Array, Stored]:
        """Logits (R, K) float32 and [CLS] (R, L, H) of rows that are there, in the build's type."""
        wanted, manifest = self._wanted, self.cache.manifest
        logits = np.empty((len(digests), manifest.outputs), np.float32)
        cls = empty_stored(len(digests), len(wanted.layers), manifest.hidden_size, wanted.dtype)
        places = [self._place[digest] for digest in digests]
        for split in sorted({split for split, _ in places}):
            here = np.flatnonzero([each == split for each, _ in places])
            rows = np.array([places[place][1] for place in here])
            old_logits, old_cls = self._load(split)
            logits[here] = old_logits[rows]
            found = old_cls[rows]
            if manifest.dtype != wanted.dtype:
                found = encode_cls(found.decode(), wanted.dtype, wanted.layers)
            cls[here] = found
        return logits, cls

    def _load(self, split: str) -> tuple[Array, Stored]:
        """A whole split: in memory, or in a memory map where it does not fit."""
        if split not in self._loaded:
            stored = self.cache.stored(split, self._wanted.layers)
            self._loaded[split] = self.cache.logits(split), stored
        return self._loaded[split]
