"""`pkd-student eval`: a student's scores."""

from __future__ import annotations

from pathlib import Path

import click

from stages.cli import Command, emit, json_option, path_option
from stages.student.options import cache_option


@click.command("eval", cls=Command)
@click.argument("student", type=click.Path(path_type=Path))
@cache_option
@click.option("--split", help="One split. [default: the task's validation splits]")
@path_option("--logits", "Also write example_id and logits to this Parquet file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@json_option
def evaluate_student(
    student: Path, cache: str, split: str | None, logits: Path | None, device: str, as_json: bool
) -> None:
    """Score a student on the labelled rows of a cache.

    \b
    Example:
      pkd-student eval data/students/rte-skip-3-s0 --cache data/rte.zarr
    """
    from pipeline.student.score import score_student

    scores = score_student(student, cache, split, logits, device)
    lines = [
        f"{name}: " + (", ".join(f"{m} {value:.4f}" for m, value in each.items()) or "no labels")
        for name, each in scores.items()
    ]
    emit({"student": str(student), "scores": scores}, as_json, "\n".join(lines))
