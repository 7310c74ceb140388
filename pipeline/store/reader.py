"""Reading a cache: only what is asked for, and never a value whose digest was not checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.digests import digest_array
from pipeline.errors import CacheCorruptError, CacheMismatchError
from pipeline.store.examples import parse_examples, require_fits
from pipeline.store.format import (
    CLS,
    CLS_SCALE,
    EXAMPLES,
    LOGITS,
    OUT_OF_FOLD,
    shard_count,
    shard_slice,
)
from pipeline.store.manifest import Manifest, Split, read_manifest
from pipeline.store.place import Place, damaged, place_of

if TYPE_CHECKING:
    import numpy as np

    from pipeline.store.split import CachedSplit
    from pipeline.store.stored import Stored

    Array = np.ndarray[Any, Any]


class TeacherCache:
    """A teacher's logits and [CLS] vectors, with the tokens and labels that they belong to.

    Examples:
        >>> cache = TeacherCache.open("data/rte.zarr")         # or s3://team/rte.zarr
        >>> train = cache["train"]
        >>> train.tensors(layers=[2, 4], device="cuda").cls.shape
        torch.Size([2490, 2, 768])

    Promises: the manifest is sound; whatever is returned has the digests that the manifest states;
    nothing outside the folder is read, and no code in it runs. Does not: read or check layers that
    are not asked for (see `pkd-cache verify`), follow a cache that is being written.
    """

    def __init__(self, place: Place, manifest: Manifest) -> None:
        self.place = place
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str) -> TeacherCache:
        """Open a finished cache.

        Args:
            path: a folder, or any fsspec URL.

        Raises:
            CacheError: none there, unfinished, or of another format version.
            CacheCorruptError: its manifest is damaged.
        """
        place = place_of(path)
        return cls(place, read_manifest(place))

    @property
    def text(self) -> str:
        """The path or URL."""
        return self.place.text

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.manifest.splits)

    def __len__(self) -> int:
        """Rows of all splits together."""
        return sum(info.rows for info in self.manifest.splits.values())

    def __getitem__(self, split: str) -> CachedSplit:
        """One split for use outside of this project; raises CacheMismatchError for another name."""
        from pipeline.store.split import CachedSplit

        self.split(split)
        return CachedSplit(self, split)

    def split(self, name: str) -> Split:
        """Counts of a split; raises CacheMismatchError when the cache has none of that name."""
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise CacheMismatchError(f"{self.text}: no split `{name}`; it has {known}.")
        return self.manifest.splits[name]

    def examples(self, split: str) -> Any:
        """`pyarrow.Table` with example_id, input_ids, token_type_ids, label, row_digest."""
        info, m = self.split(split), self.manifest
        name = f"{split}/{EXAMPLES}"
        where, classes = f"{self.text}/{name}", len(m.task["label_names"])
        table = parse_examples(self._file(name), where, regression=not classes, rows=info.rows)
        vocabulary = m.tokenizer["vocab_size"]
        require_fits(table, where, vocab_size=vocabulary, classes=classes, max_length=m.max_length)
        return table

    def logits(self, split: str) -> Array:
        """(rows, outputs) float32."""
        return self._whole(split, LOGITS)

    def has_out_of_fold(self, split: str) -> bool:
        """Whether a split has logits of teachers that never saw its rows."""
        return OUT_OF_FOLD in self.manifest.specs(split)

    def out_of_fold(self, split: str) -> Array:
        """(rows, outputs) float32 logits, each row's from a teacher that was not trained on it.

        Raises:
            CacheMismatchError: the cache has none.
        """
        self.split(split)
        if not self.has_out_of_fold(split):
            raise CacheMismatchError(
                f"{self.text}: {split} has no out-of-fold logits; make them with `pkd-teacher fit "
                "--folds 5`, and build the cache again."
            )
        return self._whole(split, OUT_OF_FOLD)

    def cls(self, split: str, layers: Sequence[int]) -> Array:
        """(rows, len(layers), hidden) of some layers: float32 from int8, else as stored.

        Raises:
            CacheMismatchError: a layer that is not cached; names those that are.
            CacheCorruptError: values other than those that were written.
        """
        return self.stored(split, layers).decode()

    def stored(self, split: str, layers: Sequence[int], budget_bytes: int | None = None) -> Stored:
        """[CLS] of some layers as stored; reads only the bytes of these layers.

        Args:
            split: its name.
            layers: teacher layers, from 1, in the order wanted.
            budget_bytes: beyond this the result is a memory map, see `pipeline.store.room`.

        Raises:
            CacheMismatchError, CacheCorruptError: as `cls`.
        """
        from pipeline.store.room import let_go, room_for
        from pipeline.store.stored import Stored

        m, rows = self.manifest, self.split(split).rows
        pieces = self.shards(split, layers)
        first = next(pieces)  # it is there, before room is made for all that a manifest claims
        values = room_for((rows, len(layers), m.hidden_size), m.dtype, budget_bytes)
        scale = room_for((rows, len(layers)), "float32") if m.dtype == "int8" else None
        result = Stored(values, scale)
        for shard_rows, piece in chain([first], pieces):
            result[shard_rows] = piece
            let_go(values)
        return result

    def shards(self, split: str, layers: Sequence[int]) -> Iterator[tuple[slice, Stored]]:
        """[CLS] of some layers, shard by shard, in memory that does not grow with the cache.

        Yields:
            rows of the split, and their vectors as stored.

        Raises:
            CacheMismatchError, CacheCorruptError: as `cls`.
        """
        import numpy as np

        from pipeline.store.stored import Stored

        places = [self._column(layer) for layer in layers]
        array = self._array(split, CLS)
        scales = self._whole(split, CLS_SCALE) if self.manifest.dtype == "int8" else None
        digests = self.manifest.row_digests[split][CLS]
        for shard, rows in self._shard_rows(split):
            count = rows.stop - rows.start
            values = np.empty((count, len(places), self.manifest.hidden_size), self.manifest.dtype)
            for column, place in enumerate(
                places
            ):  # fancy indexing of shards is tens of times slower
                values[:, column] = array[rows, place]
                what = f"layer {layers[column]}"
                self._require(values[:, column], digests[shard][place], split, what, rows)
            scale = None if scales is None else scales[rows][:, places]
            yield rows, Stored(values, scale)

    def require_layers(self, layers: Sequence[int]) -> None:
        """Raise CacheMismatchError for a layer that is not cached."""
        for layer in layers:
            self._column(layer)

    def require_complete(self) -> None:
        """Check that every file is there with its size, also those that are not going to be read.

        Raises:
            CacheCorruptError: names the first that is not.
        """
        there = self.place.sizes()
        for name, size in self.manifest.sizes.items():
            if there.get(name) != size:
                found = "missing" if there.get(name) is None else f"{there[name]} bytes of {size}"
                raise damaged(self.place, name, found)

    def _whole(self, split: str, name: str) -> Array:
        """A small array of a split, every shard checked."""
        import numpy as np

        self.split(split)
        values = np.asarray(self._array(split, name)[:])
        for shard, rows in self._shard_rows(split):
            expected = self.manifest.row_digests[split][name][shard][0]
            self._require(values[rows], expected, split, name, rows)
        return values

    def _column(self, layer: int) -> int:
        cached = self.manifest.layers
        if layer not in cached:
            has = ", ".join(str(each) for each in cached)
            raise CacheMismatchError(
                f"{self.text}: layer {layer} is not cached; it has {has} of the teacher's "
                f"{self.manifest.teacher['layers']}. Rebuild with `pkd-cache build --layers all`."
            )
        return cached.index(layer)

    def _shard_rows(self, split: str) -> Iterator[tuple[int, slice]]:
        rows, size = self.split(split).rows, self.manifest.shard_rows
        return ((n, shard_slice(n, rows, size)) for n in range(shard_count(rows, size)))

    def _array(self, split: str, name: str) -> Any:
        from pipeline.store.arrays import open_array

        self.split(split)
        spec = self.manifest.specs(split)[name]
        array = open_array(self.place, split, spec, self.manifest.sizes)
        return _Decoding(array, self, f"{split}/{name}")

    def _file(self, name: str) -> bytes:
        """A whole file whose digest is checked."""
        from hashlib import sha256

        expected = self.manifest.files[name]
        size = self.place.size(name)
        if size is None:
            raise damaged(self.place, name, "missing")
        if size == expected["size"]:
            content = self.place.read(name)
            if sha256(content).hexdigest() == expected["sha256"]:
                return content
        raise damaged(self.place, name, "not the file that was written")

    def _require(self, values: Array, expected: str, split: str, what: str, rows: slice) -> None:
        if digest_array(values) != expected:
            raise CacheCorruptError(
                f"{self.text}: {split}, {what}, rows {rows.start}..{rows.stop - 1}: values differ "
                f"from those that were written; run `pkd-cache verify {self.text}`."
            )


class _Decoding:
    """A Zarr array whose decoding errors name the cache."""

    def __init__(self, array: Any, cache: TeacherCache, name: str) -> None:
        self._array, self._text, self._name = array, cache.text, name

    def __getitem__(self, selection: Any) -> Any:
        try:
            return self._array[selection]
        except (ValueError, RuntimeError, OSError, TypeError, IndexError, MemoryError) as error:
            raise CacheCorruptError(
                f"{self._text}/{self._name}: cannot be decoded ({error}); "
                f"run `pkd-cache verify {self._text}`."
            ) from None
