"""The one place where the report touches a teacher cache: some validation rows, ready to be run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.batches import Rows
from pipeline.errors import CacheError, CacheMismatchError
from pipeline.report.paths import without_paths
from pipeline.report.records import StudentRun


@dataclass(frozen=True, kw_only=True)
class CacheView:
    """An open cache, as far as the report needs one."""

    cache: Any
    """`pipeline.store.reader.TeacherCache`."""
    cache_id: str
    split: str
    layers: tuple[int, ...]
    hidden_size: int
    pad_id: int
    tokenizer_digest: str
    rows_key: tuple[str, str]
    """Teacher and split: what two caches share when their rows and logits are the same."""

    def require_for(self, run: StudentRun) -> None:
        """Raise CacheMismatchError when the student learned from another cache."""
        if run.cache_id != self.cache_id:
            raise CacheMismatchError(
                f"it learned from cache {run.cache_id[:8]}, the one at hand is {self.cache_id[:8]}"
            )

    @property
    def tokens_key(self) -> tuple[str, bool]:
        """Tokenizer, and whether there are token types: BERT's and DistilBERT's differ in these.

        A model that reads the rows of one cache reads those of another with the same key.
        """
        types = self.examples["token_type_ids"]
        return self.tokenizer_digest, types.null_count < len(types)

    def rows(self) -> Rows:
        """All validation rows."""
        return Rows.from_examples(self.examples, self.pad_id)

    @cached_property
    def examples(self) -> Any:
        """`pyarrow.Table` of the validation rows."""
        with self._no_paths():
            return self.cache.examples(self.split)

    def teacher_logits(self) -> np.ndarray[Any, Any]:
        """(N, K) float32 of all validation rows."""
        with self._no_paths():
            return np.asarray(self.cache.logits(self.split))

    def teacher_cls(self, rows_N: Tensor) -> Tensor:
        """(N, layers, hidden) float32 [CLS] vectors of the chosen validation rows."""
        with self._no_paths():
            stored = np.asarray(self.cache.cls(self.split, self.layers))
        return torch.from_numpy(stored[rows_N.numpy()].astype(np.float32))

    @contextmanager
    def _no_paths(self) -> Iterator[None]:
        try:
            yield
        except CacheError as error:
            raise CacheError(without_paths(error, Path(self.cache.text))) from None


def open_cache(path: Path, split: str) -> CacheView:
    """Open a cache for one validation split; raises CacheError when it cannot be had."""
    from pipeline.store.reader import TeacherCache

    cache = TeacherCache.open(path)
    manifest = cache.manifest
    if split not in manifest.splits:
        raise CacheMismatchError(f"the cache has no split `{split}`")
    return CacheView(
        cache=cache,
        cache_id=manifest.cache_id,
        split=split,
        layers=tuple(manifest.layers),
        hidden_size=manifest.hidden_size,
        pad_id=manifest.tokenizer["pad_id"],
        tokenizer_digest=manifest.tokenizer["digest"],
        rows_key=(manifest.teacher["digest"], manifest.splits[split].digest),
    )
