"""One split of a cache for use outside of this project: rows, tensors, a Dataset, a join.

Shapes: N rows of the split, L layers asked for, H hidden size, K outputs (1 for regression).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.digests import row_digest
from pipeline.errors import CacheMismatchError
from pipeline.store.mismatch import first_places, shown, unmatched
from pipeline.store.stored import Stored

if TYPE_CHECKING:
    from pipeline.store.reader import TeacherCache

READ_ROWS = 1000  # of a dataset at once
TEACHER_ROW = "teacher_row"
UNLABELLED = {"int64": -100, "double": float("nan")}  # -100 is torch's ignore_index

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TeacherTensors:
    """The teacher's outputs of a split, on one device; row n of both is the same example."""

    logits: Tensor
    """(N, K) float32, classes in the order of the task's label names."""
    cls: Tensor
    """(N, L, H): float16 or float32 as stored, float32 from int8."""
    layers: tuple[int, ...]
    """Teacher layers of axis 1 of `cls`, from 1."""


class CachedSplit:
    """Rows of one split of a `TeacherCache`; made by `cache["train"]`.

    Examples:
        >>> train = TeacherCache.open("data/rte.zarr")["train"]
        >>> teacher = train.tensors(layers=[4, 8], device="cuda")
        >>> data = train.align(tokenised_dataset)
        >>> teacher.cls[data["teacher_row"][:32]].shape
        torch.Size([32, 2, 768])

    Promises: row n is the same example everywhere; every value was compared with its digest. Does
    not: keep anything in memory but the table of examples.
    """

    def __init__(self, cache: TeacherCache, name: str) -> None:
        self.cache = cache
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name} of {self.cache.text}: {len(self):,} rows>"

    def __len__(self) -> int:
        """N."""
        return self.cache.split(self.name).rows

    @cached_property
    def examples(self) -> Any:
        """`pyarrow.Table` of N rows: example_id, input_ids, token_type_ids, label, row_digest.

        token_type_ids is null where the teacher's family has none, label where a row has none.

        Raises:
            CacheCorruptError: damage.
        """
        return self.cache.examples(self.name)

    @cached_property
    def _row_of_id(self) -> dict[int, int]:
        ids = self.examples["example_id"].to_pylist()
        return {example: row for row, example in enumerate(ids)}

    def rows(self, example_ids: Iterable[SupportsIndex]) -> list[int]:
        """Row numbers, from 0, of some examples.

        Args:
            example_ids: a list, array or tensor in any order, repeated or not; the place of a row
                in its source file, or the value of the task's id column.

        Returns:
            As many row numbers, in the same order.

        Raises:
            CacheMismatchError: ids that the split does not have; counts them, names the first ones.
        """
        wanted = [operator.index(each) for each in example_ids]
        found = [self._row_of_id.get(each) for each in wanted]
        if missing := [each for each, row in zip(wanted, found, strict=True) if row is None]:
            column = self.cache.manifest.task["id_column"]
            what = f"values of the column {column}" if column else "the rows' places in the source"
            raise CacheMismatchError(
                f"{self.cache.text}: {self.name} lacks {len(missing):,} of {len(wanted):,} "
                f"examples ({shown(missing)}); example ids are {what}."
            )
        return [row for row in found if row is not None]

    def tensors(
        self, layers: Sequence[int] = (), device: torch.device | str = "cpu"
    ) -> TeacherTensors:
        """Logits and the [CLS] vectors of some layers; only the bytes of these layers are read.

        Args:
            layers: teacher layers, from 1, in the order wanted; () for the logits alone.
            device: where the tensors are to be. On the CPU, float16 and float32 vectors that do not
                fit into memory are a memory map.

        Raises:
            CacheMismatchError: a layer that is not cached; names those that are.
            CacheCorruptError: damage.
        """
        cls = torch.from_numpy(self.cache.cls(self.name, layers))
        logits = torch.from_numpy(self.cache.logits(self.name))
        return TeacherTensors(logits.to(device), cls.to(device), tuple(layers))

    def dataset(self, layers: Sequence[int] = ()) -> CachedDataset:
        """A `torch.utils.data.Dataset` of tokens, labels and the teacher's outputs.

        Args:
            layers: teacher layers, from 1, in the order wanted; () for the logits alone.

        Raises:
            CacheMismatchError, CacheCorruptError: as `tensors`.
        """
        logits, stored = self.cache.logits(self.name), self.cache.stored(self.name, layers)
        return CachedDataset(self.examples, logits, stored, tuple(layers))

    def align(self, dataset: Any, column: str = TEACHER_ROW) -> Any:
        """Join a tokenised dataset to this split by what the teacher read, never by position.

        Rows that repeat each other in the dataset get the same row of the cache, and it does not
        matter which one of several equal rows of the cache that is. Labels are not compared.

        Args:
            dataset: a Hugging Face `datasets.Dataset` with the column input_ids, and token_type_ids
                where the teacher's family has them, in any order, without padding.
            column: name of the new column.

        Returns:
            The dataset with one more column, int64: the row of this split that holds its values, to
            index what `tensors` returns.

        Raises:
            CacheMismatchError: no tokens, or rows that the cache does not have; counts them, names
                the first ones and says what they have in common.
            TypeError: not a `datasets.Dataset`.
            ValueError: the dataset has that column already.
        """
        rows = self.matching_rows(dataset)
        if column in dataset.column_names:
            raise ValueError(f"the dataset has a column {column} already; name another: column=")
        joined, form = dataset.add_column(column, rows), dataset.format
        if form["type"] is None:
            return joined
        columns = [*form["columns"], column]  # add_column forgets the format
        more = {"output_all_columns": form["output_all_columns"], **form["format_kwargs"]}
        return joined.with_format(form["type"], columns=columns, **more)

    def matching_rows(self, dataset: Any) -> Array:
        """(rows of the dataset,) int64: rows of this split with the same teacher input.

        See `align`, which makes a column of them.
        """
        self._require_tokens(dataset)
        place = first_places(self.examples)
        digests = [row_digest(*tokens) for tokens in self._tokens(dataset)]
        missing = [number for number, digest in enumerate(digests) if digest not in place]
        if missing:
            tokens = [*self._tokens(dataset.select(missing))]
            raise unmatched(self.cache, self.name, len(dataset), missing, tokens)
        return np.array([place[digest] for digest in digests], np.int64)

    def _require_tokens(self, dataset: Any) -> None:
        import datasets

        if not isinstance(dataset, datasets.Dataset):
            found = type(dataset).__name__
            hint = "; name one split of it" if isinstance(dataset, datasets.DatasetDict) else ""
            raise TypeError(f"expected a datasets.Dataset, found {found}{hint}")
        needed = ["input_ids", "token_type_ids"] if self._has_types else ["input_ids"]
        if missing := [name for name in needed if name not in dataset.column_names]:
            raise CacheMismatchError(
                f"{self.cache.text}: the dataset has no column {' and no '.join(missing)} (it has "
                f"{', '.join(dataset.column_names)}); tokenise it with the teacher's tokenizer, "
                f"{self.cache.manifest.tokenizer['name']}."
            )

    @property
    def _has_types(self) -> bool:
        return bool(self.examples["token_type_ids"].null_count == 0)

    def _tokens(self, dataset: Any) -> Iterator[tuple[list[int], list[int] | None]]:
        """Token ids and types of each row, whatever the dataset's format and order are."""
        names = ["input_ids", "token_type_ids"] if self._has_types else ["input_ids"]
        tables = dataset.select_columns(names).with_format("arrow").iter(READ_ROWS)
        for table in tables:
            ids = table["input_ids"].to_pylist()
            types = table["token_type_ids"].to_pylist() if self._has_types else [None] * len(ids)
            yield from zip(ids, types, strict=True)


class CachedDataset(Dataset[dict[str, Any]]):
    """Rows of a cached split with the teacher's outputs; made by `CachedSplit.dataset`.

    An item is what `transformers.DataCollatorWithPadding` pads and stacks:

    * input_ids: list of token ids, without padding; token_type_ids where the family has them,
    * labels: int, or float for regression; -100 or NaN for a row without one; left out when no row
      of the split has one,
    * teacher_logits: numpy (K,) float32,
    * teacher_cls: numpy (L, H), float16 or float32 as stored, float32 from int8; left out when no
      layers were asked for.

    (A `Trainer` drops what its model does not take: give it `remove_unused_columns=False`.)

    Promises: row n is row n of the split; it can be pickled for the workers of a `DataLoader`.
    """

    def __init__(
        self, examples: Any, logits: Array, stored: Stored, layers: tuple[int, ...]
    ) -> None:
        self.layers = layers
        self._ids = examples["input_ids"].combine_chunks()
        types, labels = examples["token_type_ids"].combine_chunks(), examples["label"]
        self._types = types if types.null_count == 0 else None
        self._labels: list[Any] | None = None
        if labels.null_count < len(labels):
            self._labels = labels.fill_null(UNLABELLED[str(labels.type)]).to_pylist()
        self._logits, self._stored = logits, stored

    def __len__(self) -> int:
        return len(self._logits)

    def __getitem__(self, row: SupportsIndex) -> dict[str, Any]:
        """One item; raises IndexError beyond the last row."""
        place = range(len(self))[operator.index(row)]
        item: dict[str, Any] = {"input_ids": self._ids[place].as_py()}
        if self._types is not None:
            item["token_type_ids"] = self._types[place].as_py()
        if self._labels is not None:
            item["labels"] = self._labels[place]
        item["teacher_logits"] = self._logits[place]
        if self.layers:
            item["teacher_cls"] = self._stored[place].decode()
        return item
