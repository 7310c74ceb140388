"""From text to the token rows that a cache holds."""

from __future__ import annotations

from typing import Any

from pipeline.digests import row_digest
from pipeline.tasks import Task

ENCODE_ROWS = 1000  # rows per tokenizer call


def encode(table: Any, task: Task, tokenizer: Any, max_length: int) -> Any:
    """Tokenize a split.

    Args:
        table: `pyarrow.Table` with example_id, the task's text columns and label.
        task: names the columns; two columns are one input with two segments.
        tokenizer: a fast tokenizer; the longer segment is cut first.
        max_length: in tokens, special tokens included.

    Returns:
        `pyarrow.Table` with example_id int64, input_ids list<int32>, token_type_ids list<int8>
        (null where the family has none), label (int64 or float64, null = unlabelled) and row_digest
        (16 bytes), in the order of `table`.
    """
    import pyarrow as pa

    ids: list[list[int]] = []
    types: list[list[int] | None] = []
    for start in range(0, table.num_rows, ENCODE_ROWS):
        piece = table.slice(start, ENCODE_ROWS)
        texts = [piece[column].to_pylist() for column in task.text_columns]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length)
        ids.extend(encoded["input_ids"])
        types.extend(encoded.get("token_type_ids") or [None] * piece.num_rows)
    digests = [row_digest(row, kinds) for row, kinds in zip(ids, types, strict=True)]
    return pa.table(
        {
            "example_id": table["example_id"].combine_chunks().cast(pa.int64()),
            "input_ids": pa.array(ids, pa.list_(pa.int32())),
            "token_type_ids": pa.array(types, pa.list_(pa.int8())),
            "label": table["label"].combine_chunks(),
            "row_digest": pa.array(digests, pa.binary(16)),
        }
    )
