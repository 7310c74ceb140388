"""The demo task: sentence pairs from a small grammar, made here and now."""

from __future__ import annotations

from typing import Any

from pipeline.data.raw import Raw
from pipeline.data.source import Source
from pipeline.data.table import to_split
from pipeline.demo.grammar import DemoPair, demo_splits
from pipeline.errors import DataError
from pipeline.params import DataParams
from pipeline.tasks import Task


def read_demo(task: Task, params: DataParams) -> Source:
    """All splits of the demo task; a function of the seed and the numbers of rows.

    Raises:
        DataError: more rows than the grammar has different pairs.
    """
    try:
        pairs = demo_splits(
            seed=params.seed,
            train_rows=params.train_rows,
            validation_rows=params.validation_rows,
            test_rows=params.test_rows,
        )
    except ValueError as error:
        raise DataError(
            f"The demo's grammar has not that many rows ({error}); ask for fewer by --train-rows, "
            "--validation-rows or --test-rows."
        ) from None
    splits = {name: to_split(_raw(name, pairs[name]), task, name) for name in task.splits}
    return Source("demo", "demo", splits)


def _raw(name: str, pairs: list[DemoPair]) -> Raw:
    columns: dict[str, list[Any]] = {
        "sentence1": [pair.sentence1 for pair in pairs],
        "sentence2": [pair.sentence2 for pair in pairs],
        "label": [pair.label for pair in pairs],
    }
    return Raw(f"demo {name}", columns, range(1, len(pairs) + 1), unit="row")
