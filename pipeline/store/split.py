"""One split of a cache for use outside of this project: rows, tensors, a Dataset, a join.

Shapes: N rows, L layers asked for, H hidden size, K outputs, R rows asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.digests import row_digest
from pipeline.errors import CacheMismatchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset

    from pipeline.store.reader import TeacherCache

SHOWN = 3  # rows named in an error
TEACHER_ROW = "teacher_row"


@dataclass(frozen=True)
class TeacherTensors:
    """The teacher's outputs of a split, on one device."""

    logits: Tensor
    """(N, K) float32."""
    cls: Tensor
    """(N, L, H); float16 or float32 as stored, float32 from int8."""
    layers: tuple[int, ...]
    """Teacher layers of axis 1, from 1."""


class CachedSplit:
    """Rows of one split of a `TeacherCache`; made by `cache["train"]`.

    Promises: row n is the same example everywhere; every value was compared with its digest. Does
    not: keep anything in memory but the table of examples.
    """

    def __init__(self, cache: TeacherCache, name: str) -> None:
        self.cache = cache
        self.name = name

    def __len__(self) -> int:
        """N."""
        return self.cache.split(self.name).rows

    @cached_property
    def examples(self) -> Any:
        """`pyarrow.Table`: example_id, input_ids, token_type_ids, label, row_digest."""
        return self.cache.examples(self.name)

    @cached_property
    def _row_of_id(self) -> dict[int, int]:
        ids = self.examples["example_id"].to_pylist()
        return {example: row for row, example in enumerate(ids)}

    def rows(self, example_ids: Sequence[int]) -> list[int]:
        """Row numbers of examples, in the order asked for.

        Raises:
            CacheMismatchError: an id that the split does not have.
        """
        found = [self._row_of_id.get(int(each)) for each in example_ids]
        if missing := [e for e, row in zip(example_ids, found, strict=True) if row is None]:
            raise CacheMismatchError(
                f"{self.cache.text}: {self.name} has no example {_shown(missing)}; ids are the "
                "rows' places in the source, or its id column."
            )
        return [row for row in found if row is not None]

    def tensors(
        self, layers: Sequence[int] = (), device: torch.device | str = "cpu"
    ) -> TeacherTensors:
        """Logits and the [CLS] vectors of some layers; only the bytes of these layers are read.

        Args:
            layers: teacher layers, from 1; () for the logits alone.
            device: where the tensors are to be.

        Raises:
            CacheMismatchError: a layer that is not cached.
            CacheCorruptError: damage.
        """
        import torch

        cls = torch.from_numpy(self.cache.cls(self.name, layers))
        logits = torch.from_numpy(self.cache.logits(self.name))
        return TeacherTensors(logits.to(device), cls.to(device), tuple(layers))

    def dataset(self, layers: Sequence[int] = ()) -> Dataset[dict[str, Any]]:
        """A `torch.utils.data.Dataset` of tokens, labels and the teacher's outputs.

        An item has input_ids and token_type_ids (lists; the latter where the family has them),
        labels (left out where unlabelled), teacher_logits (K,) and teacher_cls (L, H).
        """
        return _dataset(self, layers)

    def align(self, dataset: Any) -> Any:
        """Join a tokenised dataset to this split by what the teacher read.

        Args:
            dataset: a Hugging Face `datasets.Dataset` with the column input_ids, and token_type_ids
                where the teacher's family has them, in any order, without padding.

        Returns:
            The dataset with the column `teacher_row`: the row of this split that holds its values.

        Raises:
            CacheMismatchError: rows that the cache does not have, or no input_ids; counts them and
                names the first ones.
        """
        rows = self.matching_rows(dataset)
        return dataset.add_column(TEACHER_ROW, rows)

    def matching_rows(self, dataset: Any) -> list[int]:
        """Rows of this split that hold the same teacher input; see `align`."""
        place = {digest: row for row, digest in enumerate(self.examples["row_digest"].to_pylist())}
        found = [place.get(digest) for digest in self._digests(dataset)]
        if missing := [number for number, row in enumerate(found) if row is None]:
            manifest, count = self.cache.manifest, f"{len(missing):,} of {len(found):,}"
            raise CacheMismatchError(
                f"{self.cache.text}: {count} rows are not in {self.name} ({_shown(missing)}). They "
                "must be tokenised as the teacher's were: "
                f"tokenizer {manifest.tokenizer['name']}, at most {manifest.max_length} tokens, "
                "no padding; or their texts were changed since, then build the cache again."
            )
        return [row for row in found if row is not None]

    def _digests(self, dataset: Any) -> list[bytes]:
        names = set(dataset.column_names)
        if "input_ids" not in names:
            raise CacheMismatchError(
                f"{self.cache.text}: the dataset has no column input_ids (it has "
                f"{', '.join(sorted(names))}); tokenise it first."
            )
        has_types = self.examples["token_type_ids"].null_count == 0
        if has_types and "token_type_ids" not in names:
            raise CacheMismatchError(
                f"{self.cache.text}: the teacher read token_type_ids, the dataset has none; "
                "tokenise it with the teacher's tokenizer."
            )
        kinds = dataset["token_type_ids"] if has_types else [None] * len(dataset)
        return [
            row_digest(ids, types) for ids, types in zip(dataset["input_ids"], kinds, strict=True)
        ]


def _shown(values: Sequence[int]) -> str:
    text = ", ".join(str(value) for value in values[:SHOWN])
    return text + (", ..." if len(values) > SHOWN else "")


def _dataset(split: CachedSplit, layers: Sequence[int]) -> Dataset[dict[str, Any]]:
    from torch.utils.data import Dataset

    tensors, examples = split.tensors(layers), split.examples

    class CachedDataset(Dataset[dict[str, Any]]):
        """Rows of a cached split with the teacher's outputs."""

        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, row: int) -> dict[str, Any]:
            if not -len(split) <= row < len(split):
                raise IndexError(row)
            item = {
                "input_ids": examples["input_ids"][row].as_py(),
                "token_type_ids": examples["token_type_ids"][row].as_py(),
                "labels": examples["label"][row].as_py(),
            }
            present = {key: value for key, value in item.items() if value is not None}
            outputs = {"teacher_logits": tensors.logits[row], "teacher_cls": tensors.cls[row]}
            return present | outputs

    return CachedDataset()
