"""`pkd-student predict`: labels for texts."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from stages.cli import Command, emit, json_option, note, overwrite_option, path_option
from stages.progress import progress

FORMATS = click.Choice(["csv", "tsv", "jsonl", "parquet"])  # as `pipeline.predict.rows.FORMATS`


@click.command(cls=Command)
@click.argument("student")
@click.argument("source", metavar="INPUT")
@path_option("--out", "The predictions. [default: standard output]")
@click.option("--format", "kind", type=FORMATS, help="Of INPUT. [default: by its ending]")
@click.option(
    "--out-format", type=FORMATS, help="[default: by the ending of --out; else as INPUT, or jsonl]"
)
@click.option("--text-columns", help="One or two: body, or title,body. [default: the task's]")
@click.option("--keep", help="Columns of INPUT that go into the output: id,title.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do about broken rows: write nothing, or leave them out and count them.",
)
@path_option("--glue-submission", "A folder: write RTE.tsv, ... as the GLUE site takes it.")
@click.option("--max-length", type=click.IntRange(min=4), help="Tokens. [default: as trained]")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True
)
@overwrite_option
@json_option
def predict(
    student: str,
    source: str,
    out: Path | None,
    kind: str | None,
    out_format: str | None,
    text_columns: str | None,
    keep: str | None,
    on_error: str,
    glue_submission: Path | None,
    max_length: int | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Label texts with a student.

    INPUT is csv, tsv, jsonl or parquet, or - for standard input with --format. Rows are written in
    the order of the input, with index (its place there, from 0), prediction and a probability p_...
    of each label; of a regression index and score. Memory does not grow with the number of rows.

    \b
    Example:
      pkd-student predict data/students/rte-skip-3-s0 pairs.csv --out labels.csv
      zcat pairs.jsonl.gz | pkd-student predict data/students/rte-skip-3-s0 - --format jsonl
    """
    to_stdout = out is None and glue_submission is None
    _check_usage(source, kind, out, out_format, glue_submission, on_error, keep, as_json)
    from pipeline.predict.run import Options, predict_rows
    from pipeline.predict.source import open_source
    from pipeline.predict.student import describe_student
    from pipeline.predict.target import glue_target, plain_target
    from pipeline.resolve import read_params

    described = describe_student(
        student,
        read_params().get("tasks") or {},
        text_columns=_names(text_columns),
        keep=_names(keep),
        max_length=max_length,
    )
    with open_source(source, kind, sys.stdin.buffer) as opened:
        if glue_submission is not None:
            target = glue_target(described, glue_submission, opened)
        else:
            target = plain_target(described, out, out_format, sys.stdout.buffer, opened)
        with _progress(to_stdout) as tick:
            found = predict_rows(
                described,
                opened,
                target,
                Options(skip=on_error == "skip", **options),
                overwrite=overwrite,
                tick=tick,
            )
    if found.warning:
        note(f"warning: {found.warning}")
    text = _text(str(target.path or "standard output"), found)
    if to_stdout:
        note(text)
        return
    emit({"student": student, "out": str(target.path)} | vars(found), as_json, text)


def _check_usage(
    source: str,
    kind: str | None,
    out: Path | None,
    out_format: str | None,
    glue: Path | None,
    on_error: str,
    keep: str | None,
    as_json: bool,
) -> None:
    if source == "-" and kind is None:
        raise click.UsageError("Standard input needs --format csv, tsv, jsonl or parquet.")
    if glue is not None and (out or out_format or keep):
        raise click.UsageError("--glue-submission goes without --out, --out-format and --keep.")
    if glue is not None and on_error == "skip":
        raise click.UsageError("--glue-submission needs every row; leave --on-error skip out.")
    if as_json and out is None and glue is None:
        raise click.UsageError("--json prints a summary of the run; it needs --out.")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _progress(to_stdout: bool) -> AbstractContextManager[Any]:
    """Bars, but where they would run through predictions on the same terminal."""
    if to_stdout and sys.stdout.isatty():
        from pipeline.progress import silent

        return nullcontext(silent)
    return progress()


def _text(where: str, found: Any) -> str:
    rate = f", {found.rows / found.seconds:,.0f} rows/s" if found.rows else ""
    lines = [f"{where}: {found.rows:,} rows in {found.seconds:.1f} s{rate}"]
    values = (
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4f}"
        for name, value in found.summary.items()
    )
    lines += [f"  {', '.join(values)}"] if found.summary else []
    if found.skipped:
        lines.append(f"  skipped {found.skipped:,} broken row{'s' * (found.skipped > 1)}:")
        lines += [f"    {problem}" for problem in found.problems]
        more = found.skipped - len(found.problems)
        lines += [f"    and {more:,} more"] if more else []
    return "\n".join(lines)
