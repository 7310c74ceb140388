"""GLUE's own files: `train.tsv`, `dev.tsv`, `test.tsv` as the benchmark's site distributes them.

Their columns differ from the hub's, CoLA's train and dev files have no header, and QQP's have some
rows that a line break cuts in two. The hub's copy leaves those out; so does this reader.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.lines import decoded_lines, read_tsv
from pipeline.data.raw import Raw
from pipeline.data.table import wanted_columns
from pipeline.tasks import Task

FOLDERS = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
}
ALIASES: dict[str, dict[str, str]] = {
    "mrpc": {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
    "stsb": {"label": "score"},
    "qqp": {"label": "is_duplicate"},
    "mnli": {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
}
COLA_HEADER = ("source", "label", "orig_judgement", "sentence")
WITH_BROKEN_ROWS = frozenset({"qqp"})  # rows cut in two, and a few empty questions


def read_glue(path: Path, task: Task, split: str) -> Raw:
    """Read one of GLUE's own files.

    Raises:
        DataError: a column is missing, or a row is ragged.
    """
    wanted = wanted_columns(task, split, ALIASES.get(task.name))
    header = COLA_HEADER if task.name == "cola" and not _has_header(path) else None
    return read_tsv(path, wanted, header=header, skip_short=task.name in WITH_BROKEN_ROWS)


def _has_header(path: Path) -> bool:
    """Whether a CoLA file names its columns, as its test file does."""
    _, first = next(decoded_lines(path), (1, ""))
    return "sentence" in first.rstrip("\r\n").split("\t")
