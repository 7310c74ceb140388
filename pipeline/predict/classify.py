"""Running a classifier over windows of rows: sorted by length within one, in input order after.

Shapes: N rows of a window, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.batches import Rows
from pipeline.devices import autocast
from pipeline.errors import ModelError
from pipeline.models.encode import encode
from pipeline.models.load import load_classifier, load_tokenizer
from pipeline.predict.rows import Row
from pipeline.predict.student import Described
from pipeline.tasks import Task
from pipeline.training.evaluate import predict

Array = np.ndarray[Any, Any]

WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 1 << 22  # whatever their number, so many characters end a window
COLUMNS = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A student on its device, with its tokenizer."""

    described: Described
    model: Any
    tokenizer: Any
    device: torch.device
    precision: str
    """float32 or bfloat16."""
    batch_size: int

    def __call__(self, rows: Sequence[Row], on_batch: Callable[[int], None] | None = None) -> Array:
        """(N, K) float32 class probabilities, or (N, 1) numbers of a regression.

        Args:
            rows: of one window.
            on_batch: told how many rows each finished batch had.

        Raises:
            ModelError: an output that is not finite.
        """
        tokens = self._tokens(rows).to(self.device)
        with autocast(self.device, self.precision):
            logits_NK = predict(self.model, tokens, self.batch_size, on_batch)
        if not np.isfinite(logits_NK).all():
            raise ModelError(
                f"{self.described.name}: gave outputs that are not finite (compute "
                f"{self.precision}); are its weights sound?"
            )
        if not self.described.labels:
            return logits_NK
        probabilities: Array = torch.from_numpy(logits_NK).softmax(-1).numpy()
        return probabilities

    def _tokens(self, rows: Sequence[Row]) -> Rows:
        import pyarrow as pa

        names = COLUMNS[: len(self.described.columns.texts)]
        texts = zip(*(row.texts for row in rows), strict=True)
        table = pa.table(
            {name: pa.array(each, pa.string()) for name, each in zip(names, texts, strict=True)}
            | {
                "example_id": pa.array([row.index for row in rows], pa.int64()),
                "label": pa.nulls(len(rows), pa.int64()),
            }
        )
        task = Task(name="predict", text_columns=names)
        encoded = encode(table, task, self.tokenizer, self.described.max_length)
        return Rows.from_examples(encoded, self.tokenizer.pad_token_id)


def load_student(
    described: Described, *, device: torch.device, precision: str, batch_size: int
) -> Classifier:
    """Load weights and tokenizer; raises ModelError."""
    return Classifier(
        described=described,
        tokenizer=load_tokenizer(described.name),
        model=load_classifier(described.name).to(device),
        device=device,
        precision=precision,
        batch_size=batch_size,
    )


def windows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cut rows into windows of bounded size."""
    window: list[Row] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += row.characters
        if len(window) == WINDOW_ROWS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window
