"""The values of a shard: rows that the teacher runs over, rows taken from an earlier cache, copies.

An input that occurs several times is computed once: a row takes the values of its first occurrence,
splits in the order of the build. Which rows a shard computes, and in which batches, follows from
the data alone, never from who builds it or what is finished; so one process or many, stopped or
not, give the same bytes.

Shapes: N rows of a split, R rows of a shard, L layers, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.batches import Rows
from pipeline.models.running import as_run
from pipeline.store.shards import Layout, ShardFiles
from pipeline.store.stored import Stored, empty_stored, encode_cls
from pipeline.teacher.forward import Teacher, run_rows

Array = np.ndarray[Any, Any]
OnBatch = Callable[[int, int], None]


class Earlier(Protocol):
    """Rows of an earlier cache of the same teacher, see `pipeline.caching.reuse`."""

    def holds(self, digests: Sequence[bytes], /) -> Array:
        """(R,) bool."""

    def values(self, digests: Sequence[bytes], /) -> tuple[Array, Stored]:
        """Logits (R, K) and [CLS] of rows that it holds."""


@dataclass(frozen=True)
class Shard:
    """Values of one shard and what they cost."""

    logits_RK: Array
    cls: Stored
    computed: int
    """Rows that the teacher ran over."""
    copied: int
    """Rows that repeat an earlier one."""
    reused: int
    """Rows from an earlier cache."""


@dataclass
class _Split:
    """A split that was added."""

    rows: Rows
    digests: list[bytes]
    offset: int
    """Of its first row in the numbering through all splits."""
    first_N: Array = field(default_factory=lambda: np.empty(0, np.int64))
    """Each row's first occurrence, in that numbering."""


class ShardValues:
    """Computes shards of one build; keeps the values of repeated rows that a later shard needs."""

    def __init__(
        self,
        teacher: Teacher,
        layout: Layout,
        batch_tokens: int,
        files: ShardFiles,
        earlier: Earlier | None = None,
    ) -> None:
        self.teacher, self.layout, self.batch_tokens = teacher, layout, batch_tokens
        self._files, self._earlier = files, earlier
        self._splits: dict[str, _Split] = {}
        self._sources: dict[int, tuple[Array, Stored]] = {}

    def add_split(self, name: str, rows: Rows, digests: list[bytes]) -> None:
        """Take note of a split; splits are added in the order of the build."""
        offset = sum(len(each.digests) for each in self._splits.values())
        split = _Split(rows, digests, offset)
        self._splits[name] = split
        split.first_N = self._first_occurrences()[offset:]

    def _first_occurrences(self) -> Array:
        """Of every row so far, in the numbering through all splits."""
        joined = b"".join(b"".join(each.digests) for each in self._splits.values())
        digests = np.frombuffer(joined, dtype="V16").view([("a", "u8"), ("b", "u8")])
        _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        firsts: Array = first[inverse]
        return firsts

    def to_compute(self, split: str, shard: int) -> int:
        """Rows of a shard that the teacher will run over, copies from other shards apart."""
        return len(self._computed_rows(split, shard)[0])

    def shard(self, split: str, shard: int, on_batch: OnBatch | None = None) -> Shard:
        """All values of one shard."""
        known, rows = self._splits[split], self._rows_of(split, shard)
        first_R = known.first_N[rows.start : rows.stop]
        numbers_R = np.arange(rows.start, rows.stop) + known.offset
        own_R = first_R == numbers_R
        result = self._room(len(rows))
        computed, reused = self._fill_own(split, shard, result, None, on_batch)
        inside_R = ~own_R & (first_R >= numbers_R[0])
        source = first_R[inside_R] - numbers_R[0]
        result[0][inside_R], result[1][inside_R] = result[0][source], result[1][source]
        for place in np.flatnonzero(~own_R & ~inside_R):
            logits_K, cls = self._source(split, int(first_R[place]))
            result[0][place], result[1][place : place + 1] = logits_K, cls
        copied = int((~own_R).sum())
        return Shard(*result, computed=computed, copied=copied, reused=reused)

    def _room(self, rows: int) -> tuple[Array, Stored]:
        layout = self.layout
        logits = np.full((rows, layout.outputs), np.nan, np.float32)
        cls = empty_stored(rows, len(layout.layers), layout.hidden_size, layout.dtype)
        return logits, cls

    def _rows_of(self, split: str, shard: int) -> range:
        rows = self.layout.rows_of(shard, len(self._splits[split].digests))
        return range(rows.start, rows.stop)

    def _computed_rows(self, split: str, shard: int) -> tuple[list[int], list[int]]:
        """Rows of a shard that are first occurrences: those to compute, those to reuse."""
        known, rows = self._splits[split], self._rows_of(split, shard)
        own = [row for row in rows if known.first_N[row] == row + known.offset]
        if self._earlier is None:
            return own, []
        held = self._earlier.holds([known.digests[row] for row in own])
        compute = [row for row, there in zip(own, held, strict=True) if not there]
        return compute, [row for row, there in zip(own, held, strict=True) if there]

    def _fill_own(
        self,
        split: str,
        shard: int,
        result: tuple[Array, Stored],
        only: set[int] | None,
        on_batch: OnBatch | None,
    ) -> tuple[int, int]:
        """Put a shard's first occurrences into `result`; with `only`, at least those rows."""
        compute, reuse = self._computed_rows(split, shard)
        known, start = self._splits[split], self._rows_of(split, shard).start
        teacher, layers = self.teacher, self.layout.layers
        with as_run(teacher.model, teacher.device):
            logits, cls_RLH = run_rows(
                teacher, known.rows, compute, layers, self.batch_tokens, on_batch, only
            )
        place = np.asarray([row - start for row in compute], np.int64)
        done = ~np.isnan(logits).any(axis=1) if only is not None else np.ones(len(place), bool)
        stored = encode_cls(cls_RLH[done], self.layout.dtype, self.layout.layers)
        result[0][place[done]], result[1][place[done]] = logits[done], stored
        if reuse:
            assert self._earlier
            digests = [known.digests[row] for row in reuse]
            place = np.asarray(reuse, np.int64) - start
            result[0][place], result[1][place] = self._earlier.values(digests)
        return int(done.sum()), len(reuse)

    def _source(self, for_split: str, number: int) -> tuple[Array, Stored]:
        """Values of a first occurrence in an earlier shard, by its number through all splits."""
        if number not in self._sources:
            self._fetch_sources(for_split, number)
        return self._sources[number]

    def _fetch_sources(self, for_split: str, number: int) -> None:
        """Fetch all rows of the source's shard that the split needs: read them, or compute them."""
        split = next(n for n, s in self._splits.items() if 0 <= number - s.offset < len(s.digests))
        offset = self._splits[split].offset
        shard = (number - offset) // self.layout.shard_rows
        rows = self._rows_of(split, shard)
        needed = self._needed(for_split, range(rows.start + offset, rows.stop + offset))
        if self._files.is_finished(split, shard):
            found = self._files.rows(split, slice(rows.start, rows.stop))
        else:  # another process has it; the same batches give the same bits
            found = self._room(len(rows))
            wanted = {each - offset for each in needed}
            self._fill_own(split, shard, found, wanted, None)
        for each in needed:
            place = each - offset - rows.start
            self._sources[each] = found[0][place].copy(), _copied(found[1][place : place + 1])

    def _needed(self, for_split: str, numbers: range) -> list[int]:
        """Numbers of a shard that rows of a split outside of this shard repeat."""
        known = self._splits[for_split]
        number_N = np.arange(len(known.first_N)) + known.offset
        repeats_N = (known.first_N >= numbers.start) & (known.first_N < numbers.stop)
        outside_N = (number_N < numbers.start) | (number_N >= numbers.stop)
        return [int(number) for number in np.unique(known.first_N[repeats_N & outside_N])]


def _copied(cls: Stored) -> Stored:
    """Detached from the shard it is a part of, so that the shard's memory can go."""
    scale = None if cls.scale_RL is None else cls.scale_RL.copy()
    return Stored(cls.values_RLH.copy(), scale)
