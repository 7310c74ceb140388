"""`pkd-student export`: a student as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import Command, emit, json_option, note, overwrite_option, path_option
from stages.progress import progress


@click.command(cls=Command)
@click.argument("student", type=click.Path(path_type=Path))
@click.option(
    "--onnx", is_flag=True, default=True, expose_value=False,
    help="The format: ONNX, the only one there is, and so the default.",
)  # fmt: skip
@click.option("--int8", is_flag=True, help="Also a file of int8 weights (dynamic quantisation).")
@click.option(
    "--cache", help="Check and score on the validation rows of this cache. [default: made-up rows]"
)
@path_option("--out", "The folder to make. [default: data/exports/NAME]")
@overwrite_option
@json_option
def export(
    student: Path, int8: bool, cache: str | None, out: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Export a student, or any classifier, for onnxruntime.

    The folder is usable alone, with onnxruntime and tokenizers: model.onnx, with --int8
    model_int8.onnx too, the tokenizer, the configuration, and export.json. Logits are compared with
    PyTorch's first; an export that differs is not published.

    \b
    Example:
      pkd-student export data/students/rte-skip-3-s0 --onnx --int8 --cache data/rte.zarr
    """
    from pipeline.export.student import export_student

    folder = out or Path("data/exports") / student.resolve().name
    with progress() as tick:
        record = export_student(
            student, folder, int8=int8, cache=cache, overwrite=overwrite, tick=tick
        )
    if record.get("existed"):
        note(f"{folder}: exported from the same student already; nothing to do.")
    if int8 and cache is None:
        note("  no scores: add --cache to measure what int8 costs on the validation rows.")
    emit({"out": str(folder)} | record, as_json, "\n".join(_text(folder, record)))


def _text(folder: Path, record: dict[str, Any]) -> list[str]:
    from pipeline.export.card import rows_text
    from stages.cache.tables import table

    check = record["check"]
    error, allowed = check["largest_error"], check["tolerance"]
    sizes = ", ".join(str(size) for size in check["batch_sizes"])
    return [
        f"{folder}: opset {record['opset']}, at most {record['max_length']} tokens",
        f"  largest error of a logit {error:.2g}, tolerance {allowed:.2g}",
        f"  checked on {rows_text(record)}, in batches of {sizes}",
        *(f"  {line}" for line in table(_rows(record))),
    ]


def _rows(record: dict[str, Any]) -> list[list[str]]:
    """A line per file: size, then scores, agreement and error of each split."""
    from stages.cache.tables import percent, size_text

    scores = record["scores"]["pytorch"]
    metrics = [(split, metric) for split, each in scores.items() for metric in each]
    several = len(record["check"]["rows"]) > 1
    head = ["", "size"]
    head += [f"{metric}, {split}" if several else metric for split, metric in metrics]
    pytorch = ["PyTorch", ""] + [f"{scores[split][metric]:.4f}" for split, metric in metrics]
    lines = [[*head, "same label", "largest error"]] + ([[*pytorch, "", ""]] if metrics else [])
    for each in record["files"].values():
        same = [value for value in each["same_label"].values() if value is not None]
        lines.append(
            [
                each["file"],
                size_text(each["size_bytes"]),
                *(f"{each['scores'][split][metric]:.4f}" for split, metric in metrics),
                ", ".join(percent(value) for value in same) or "-",
                ", ".join(f"{value:.2g}" for value in each["largest_error"].values()),
            ]
        )
    return lines
