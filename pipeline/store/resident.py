"""A cache that is read, and checked, once for many runs, in this process and in others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store.format import LOGITS, OUT_OF_FOLD
from pipeline.store.manifest import Manifest
from pipeline.store.place import Place
from pipeline.store.reader import TeacherCache
from pipeline.store.room import room_for
from pipeline.store.stored import Stored

Array = np.ndarray[Any, Any]


class ResidentCache(TeacherCache):
    """A cache whose values stand decoded in files that processes map into their memory.

    Promises: values that `load` was told of are read from the cache once, whoever asks; those that
    it was not told of are read as of any cache. Does not: remove its folder.
    """

    def __init__(
        self, place: Place, manifest: Manifest, folder: Path, examples: dict[str, Any]
    ) -> None:
        super().__init__(place, manifest)
        self._folder, self._examples = folder, examples

    @classmethod
    def load(
        cls, cache: TeacherCache, folder: Path, layers: Sequence[int], splits: Sequence[str]
    ) -> ResidentCache:
        """Read the examples and logits of splits, and some layers of the training rows.

        Args:
            cache: any.
            folder: for the decoded values; temporary.
            layers: teacher layers, from 1.
            splits: train among them.

        Raises:
            CacheMismatchError, CacheCorruptError: as `TeacherCache`.
        """
        examples = {split: cache.examples(split) for split in splits}
        for split in splits:
            np.save(_file(folder, split, LOGITS), cache.logits(split))
            if cache.has_out_of_fold(split):
                np.save(_file(folder, split, OUT_OF_FOLD), cache.out_of_fold(split))
        for layer in layers:
            stored = cache.stored("train", [layer])
            np.save(_file(folder, "train", f"{layer}"), stored.values_RLH[:, 0])
            if stored.scale_RL is not None:
                np.save(_file(folder, "train", f"{layer}-scale"), stored.scale_RL[:, 0])
        return cls(cache.place, cache.manifest, folder, examples)

    def require_complete(self) -> None:
        """It was when it was loaded."""

    def examples(self, split: str) -> Any:
        """As `TeacherCache.examples`."""
        return self._examples[split] if split in self._examples else super().examples(split)

    def logits(self, split: str) -> Array:
        """As `TeacherCache.logits`."""
        return self._held(split, LOGITS, super().logits)

    def out_of_fold(self, split: str) -> Array:
        """As `TeacherCache.out_of_fold`."""
        return self._held(split, OUT_OF_FOLD, super().out_of_fold)

    def stored(self, split: str, layers: Sequence[int], budget_bytes: int | None = None) -> Stored:
        """As `TeacherCache.stored`."""
        files = [_file(self._folder, split, f"{layer}") for layer in layers]
        if not all(path.exists() for path in files):
            return super().stored(split, layers, budget_bytes)
        shape = (self.split(split).rows, len(layers), self.manifest.hidden_size)
        values = room_for(shape, self.manifest.dtype, budget_bytes)
        scale = np.empty(shape[:2], np.float32) if self.manifest.dtype == "int8" else None
        for place, path in enumerate(files):
            values[:, place] = np.load(path, mmap_mode="r")
            if scale is not None:
                scale[:, place] = np.load(path.with_name(f"{path.stem}-scale.npy"))
        return Stored(values, scale)

    def _held(self, split: str, name: str, otherwise: Any) -> Array:
        path = _file(self._folder, split, name)
        found: Array = np.load(path) if path.exists() else otherwise(split)
        return found


def _file(folder: Path, split: str, name: str) -> Path:
    return folder / f"{split}-{name}.npy"
