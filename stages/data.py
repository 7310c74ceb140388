"""`pkd-data`: a task's data, and the demo's own base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.cli import (
    commands,
    emit,
    json_option,
    note,
    overwrite_option,
    path_option,
    resolve,
    task_named,
    task_option,
    with_params,
)
from stages.progress import progress

SHORT_DIGEST = 12


@commands("pkd-data", "Prepare data: GLUE or your own files, and the demo's base model.")
def cli() -> None:
    """Group of the commands below."""


@cli.command()
@task_option
@path_option("--out", "Folder to write.  [default: data/raw/TASK]")
@with_params("data")
@overwrite_option
@json_option
def prepare(task: str, out: Path | None, overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Read a task's data, check every row, and write one Parquet file per split.

    --source is `hub` (GLUE from the Hugging Face hub), or a folder with GLUE's own train.tsv,
    dev.tsv and test.tsv, or with train/validation/test as .csv, .tsv, .jsonl or .parquet. Only
    test rows may lack a label. The demo task has no source: its sentences are made.

    \b
    Example:
        pkd-data prepare --task rte
        pkd-data prepare --task rte --source glue/RTE --max-train-samples 500
        pkd-data prepare --task tickets --source tickets/  # described in params.yaml
    """
    from pipeline.data.prepare import prepare as prepare_data

    described = task_named(task)
    params, _ = resolve("data", flags, task)
    out = out or Path("data/raw") / task
    record, written = prepare_data(described, params, out, overwrite=overwrite)
    _warn(record)
    status = "prepared" if written else "unchanged"
    emit({**record, "out": str(out), "status": status}, as_json, _as_text(record, out, written))


@cli.command()
@path_option("--out", "Folder to write.", default="data/base/demo", show_default=True)
@with_params("base")
@overwrite_option
@json_option
def base(out: Path, overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Pretrain the demo's small BERT, from which its teacher and students start.

    Real tasks start from a checkpoint of the hub instead, such as bert-base-uncased.

    \b
    Example:
        pkd-data base
        pkd-data base --out data/base/tiny --layers 2 --steps 100
    """
    from pipeline.data.base import build_base

    params, _ = resolve("base", flags, None)
    with progress() as tick:
        record, written = build_base(params, out, overwrite=overwrite, tick=tick)
    status = "prepared" if written else "unchanged"
    text = (
        f"{out}: {record['settings']['layers']} layers, {record['parameters']:,} parameters, "
        f"masked accuracy {record['masked_accuracy']:.3f}"
    )
    emit({**record, "out": str(out), "status": status}, as_json, _ended(text, written))


def _ended(text: str, written: bool) -> str:
    return text if written else f"{text}; nothing to do."


def _warn(record: Mapping[str, Any]) -> None:
    """Tell what published data was taken as it is."""
    for name, split in record["splits"].items():
        if split["skipped_rows"]:
            note(f"  {name}: {split['skipped_rows']} broken rows left out, as in the hub's copy")
        if split["empty_texts"]:
            note(f"  {name}: {split['empty_texts']} empty texts, kept as published")


def _as_text(record: Mapping[str, Any], out: Path, written: bool) -> str:
    rows = [("split", "rows", "labelled", "labels")]
    for name, split in record["splits"].items():
        rows.append((name, f"{split['rows']:,}", f"{split['labelled']:,}", _labels_text(split)))
    last = f"{out}: {record['source']['kind']} data, digest {record['digest'][:SHORT_DIGEST]}"
    return "\n".join([*_aligned(rows), _ended(last, written)])


def _labels_text(split: Mapping[str, Any]) -> str:
    """Rows per label, or the range of a regression's labels."""
    if not split["labelled"]:
        return "-"
    if "label_summary" in split:
        return ", ".join(f"{name} {value:.4g}" for name, value in split["label_summary"].items())
    return ", ".join(f"{name} {count:,}" for name, count in split["label_histogram"].items())


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of text: the first and last to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if 0 < place < len(row) - 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
