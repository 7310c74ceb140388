"""`pkd-teacher`: fine-tune a teacher, or score one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import (
    commands,
    emit,
    json_option,
    leads,
    note,
    overwrite_option,
    path_option,
    prepared_data,
    resolve,
    resume_option,
    task_named,
    task_option,
    with_params,
)
from stages.progress import progress, step_ticks


@commands("pkd-teacher", "Fine-tune and score teachers.")
def cli() -> None:
    """The group."""


@cli.command()
@task_option
@path_option("--data", "Prepared data. [default: data/raw/TASK]")
@path_option("--out", "The teacher's folder. [default: data/teachers/TASK]")
@with_params("teacher")
@resume_option
@overwrite_option
@json_option
def fit(
    task: str,
    data: Path | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Fine-tune a pretrained encoder on a task.

    The result is a plain Hugging Face folder with a record, teacher.json.

    \b
    Example:
      pkd-teacher fit --task rte --init bert-base-uncased
    """
    task_named(task)
    note(f"teacher for {task}")
    values, sources = resolve("teacher", flags, task)
    from pipeline.teacher.fit import fit_teacher

    folder = out or Path(f"data/teachers/{task}")
    with progress() as tick:
        record = fit_teacher(
            prepared=prepared_data(task, data),
            out=folder,
            params=values,
            sources=sources,
            resume=resume,
            overwrite=overwrite,
            on_step=step_ticks(tick, f"teacher {task}"),
            on_fold_step=_fold_ticks(tick, task, values.folds),
        )
    if record.get("existed"):
        note(f"{folder}: made from the same inputs already; nothing to do.")
    if leads():
        emit(record, as_json, _summary(folder, record))


@cli.command("eval")
@task_option
@click.option("--teacher", help="A folder or a hub id. [default: data/teachers/TASK]")
@path_option("--data", "Prepared data. [default: data/raw/TASK]")
@click.option("--teacher-labels", help="The labels in the order of the teacher's outputs.")
@click.option(
    "--max-length",
    type=click.IntRange(min=3),
    help="In tokens. [default: the teacher's record, else 128]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@json_option
def evaluate_teacher(
    task: str,
    teacher: str | None,
    data: Path | None,
    teacher_labels: str | None,
    max_length: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Score a teacher on the labelled validation splits.

    \b
    Example:
      pkd-teacher eval --task rte --teacher data/teachers/rte
    """
    task_named(task)
    from pipeline.teacher.fit import score_teacher

    name = teacher or f"data/teachers/{task}"
    scores = score_teacher(
        prepared_data(task, data),
        name,
        max_length=max_length,
        teacher_labels=teacher_labels,
        device_name=device,
    )
    lines = [
        f"{split}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in of_split.items())
        for split, of_split in scores.items()
    ]
    emit({"teacher": name, "task": task, "scores": scores}, as_json, "\n".join(lines))


def _fold_ticks(tick: Any, task: str, folds: int) -> Any:
    def on_step(fold: int, entry: Any) -> None:
        step_ticks(tick, f"teacher {task}, fold {fold} of {folds}")(entry)

    return on_step


def _summary(folder: Path, record: dict[str, Any]) -> str:
    lines = [
        (
            f"{folder}: {record['layers']} layers, {record['parameters'] / 1e6:.1f} M parameters, "
            f"best epoch {record['best_epoch']}, {record['seconds']:.0f} s"
        ),
    ]
    for split, scores in record["scores"].items():
        text = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
        lines.append(f"  {split}: {text}")
    if found := record.get("out_of_fold"):
        text = ", ".join(f"{metric} {value:.4f}" for metric, value in found["scores"].items())
        lines.append(f"  training rows out of {found['folds']} folds: {text}")
    lines.append(f"Next: pkd-cache build --task {record['task']}")
    return "\n".join(lines)


if __name__ == "__main__":  # for launchers: `torchrun --nproc-per-node 2 -m stages.teacher fit`
    cli(prog_name="pkd-teacher")
