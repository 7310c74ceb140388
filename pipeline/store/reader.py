"""Reading a cache: only what is asked for, and never a value whose digest was not checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.digests import digest_array, digest_file
from pipeline.errors import CacheCorruptError, CacheMismatchError
from pipeline.store.examples import read_examples
from pipeline.store.format import (
    CLS,
    EXAMPLES,
    LOGITS,
    open_group,
    require_array_metadata,
    shard_count,
    shard_slice,
)
from pipeline.store.manifest import Manifest, Split, read_manifest

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class TeacherCache:
    """A teacher's logits and [CLS] vectors, with the tokens and labels that they belong to.

    Promises: the manifest is sound; what `examples`, `logits` and `cls` return has the digests that
    the manifest states. Does not: read or check layers that are not asked for (see
    `pipeline.store.check`), follow a cache that is being written.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str) -> TeacherCache:
        """Open a finished cache; raises CacheError or CacheCorruptError."""
        return cls(Path(path), read_manifest(Path(path)))

    def split(self, name: str) -> Split:
        """Counts of a split; raises CacheMismatchError when the cache has none of that name."""
        if name not in self.manifest.splits:
            known = ", ".join(self.manifest.splits)
            raise CacheMismatchError(f"{self.path}: no split `{name}`; it has {known}.")
        return self.manifest.splits[name]

    def examples(self, split: str) -> Any:
        """`pyarrow.Table` with example_id, input_ids, token_type_ids, label, row_digest."""
        info = self.split(split)
        self._check_file(f"{split}/{EXAMPLES}")
        regression = not self.manifest.task["label_names"]
        return read_examples(self.path / split / EXAMPLES, regression, info.rows)

    def logits(self, split: str) -> Array:
        """(rows, outputs) float32."""
        import numpy as np

        values = np.asarray(self._array(split, LOGITS)[:])
        for shard, rows in self._shards(split):
            expected = self.manifest.row_digests[split][LOGITS][shard][0]
            self._require(digest_array(values[rows]), expected, split, "logits", rows)
        return values

    def cls(self, split: str, layers: Sequence[int]) -> Array:
        """(rows, len(layers), hidden) in the stored type; reads only the bytes of these layers.

        Raises:
            CacheMismatchError: a layer that is not cached; names those that are.
            CacheCorruptError: values other than those that were written.
        """
        import numpy as np

        info = self.split(split)
        places = [self._place(layer) for layer in layers]
        shape = (info.rows, len(places), self.manifest.hidden_size)
        result = np.empty(shape, dtype=self.manifest.dtype)
        array = self._array(split, CLS)
        # layer by layer in order: fancy indexing of a sharded array is tens of times slower
        for column, place in enumerate(places):
            result[:, column] = array[:, place]
            for shard, rows in self._shards(split):
                expected = self.manifest.row_digests[split][CLS][shard][place]
                found = digest_array(result[rows, column])
                self._require(found, expected, split, f"layer {layers[column]}", rows)
        return result

    def _place(self, layer: int) -> int:
        cached = self.manifest.layers
        if layer not in cached:
            has = ", ".join(str(each) for each in cached)
            raise CacheMismatchError(
                f"{self.path}: layer {layer} is not cached; it has {has} of the teacher's "
                f"{self.manifest.teacher['layers']}. Rebuild with `pkd-cache build --layers all`."
            )
        return cached.index(layer)

    def _shards(self, split: str) -> list[tuple[int, slice]]:
        rows, size = self.split(split).rows, self.manifest.shard_rows
        return [(shard, shard_slice(shard, rows, size)) for shard in range(shard_count(rows, size))]

    def _array(self, split: str, name: str) -> Any:
        """An array whose metadata is checked before zarr decodes anything by it."""
        m, rows = self.manifest, self.split(split).rows
        metadata = f"{split}/{name}/zarr.json"
        self._check_file(metadata)
        if name == CLS:
            hidden, layers = m.hidden_size, len(m.layers)
            require_array_metadata(
                self.path / metadata,
                shape=(rows, layers, hidden),
                chunks=(m.shard_rows, 1, hidden),
                shards=(m.shard_rows, layers, hidden),
                dtype=m.dtype,
            )
        else:
            require_array_metadata(
                self.path / metadata,
                shape=(rows, m.outputs),
                chunks=(m.shard_rows, m.outputs),
                shards=None,
                dtype="float32",
            )
        return _Decoding(open_group(self.path, mode="r")[f"{split}/{name}"], self.path, split)

    def _check_file(self, name: str) -> None:
        path, expected = self.path / name, self.manifest.files.get(name)
        if expected is None or not path.is_file():
            raise CacheCorruptError(f"{path}: missing; run `pkd-cache verify {self.path}`.")
        if path.stat().st_size != expected["size"] or digest_file(path) != expected["sha256"]:
            raise CacheCorruptError(
                f"{path}: not the file that was written; run `pkd-cache verify {self.path}`."
            )

    def _require(self, found: str, expected: str, split: str, what: str, rows: slice) -> None:
        if found != expected:
            raise CacheCorruptError(
                f"{self.path}: {split}, {what}, rows {rows.start}..{rows.stop - 1}: values differ "
                f"from those that were written; run `pkd-cache verify {self.path}`."
            )


class _Decoding:
    """A Zarr array whose decoding errors name the cache."""

    def __init__(self, array: Any, path: Path, split: str) -> None:
        self._array, self._path, self._split = array, path, split

    def __getitem__(self, selection: Any) -> Any:
        try:
            return self._array[selection]
        except (ValueError, RuntimeError, OSError) as error:
            raise CacheCorruptError(
                f"{self._path}: {self._split} cannot be decoded ({error}); "
                f"run `pkd-cache verify {self._path}`."
            ) from None
