"""`pkd-student fit`: one student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import (
    Command,
    emit,
    json_option,
    leads,
    note,
    overwrite_option,
    path_option,
    resolve,
    resume_option,
    with_params,
)
from stages.progress import progress, step_ticks

SHARE_WARNING = 0.9


@click.command(cls=Command)
@click.option(
    "--cache",
    required=True,
    multiple=True,
    help="A finished cache: data/rte.zarr, or any fsspec URL. Several: one for each teacher.",
)
@path_option(
    "--out",
    "The student. [default: data/students/TASK-STRATEGY-LAYERS-sSEED; --share and --pretrain stand "
    "before the seed]",
)
@with_params("student")
@resume_option
@overwrite_option
@json_option
def fit(
    cache: tuple[str, ...],
    out: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train one student from a cache; no teacher is loaded.

    The result is a plain Hugging Face folder with a model card and a record, run.json.

    \b
    Example:
      pkd-student fit --cache data/rte.zarr --strategy skip --student-layers 3
    """
    from pipeline.store.manifest import read_manifest

    first, *others = cache
    manifest = read_manifest(first)
    task = str(manifest.task["name"])
    note(f"student for {task} from {', '.join(cache)}")
    values, sources = resolve("student", flags, task)
    from pipeline.store.remote import traffic
    from pipeline.student.fit import fit_student

    name = f"{task} {values.strategy}"
    opened: list[Any] = []
    with progress() as tick:
        folder, record = fit_student(
            cache_path=first,
            others=others,
            out=out,
            params=values,
            sources=sources,
            resume=resume,
            overwrite=overwrite,
            on_cache=opened.append,
            on_probe=tick,
            on_choice=lambda choice: note(f"  {choice.reason}"),
            on_step=_with_shares(step_ticks(tick, name)),
            on_lesson=_tell_lesson,
            on_pretrain_step=step_ticks(tick, f"{name}, {values.pretrain}"),
        )
    if read := traffic(opened[0].place, manifest.total_bytes):
        note(read)
    if record.get("existed"):
        note(f"{folder}: made from the same inputs already; nothing to do.")
    if leads():
        emit(record, as_json, _summary(folder, record))


def _tell_lesson(lesson: Any) -> None:
    """The labels of --pretrain and how many rows have each."""
    right, wrong = lesson.thresholds
    whose, seen = "the teacher is", "its training rows"
    if lesson.out_of_fold:
        whose, seen = "the folds' teachers are", "rows that they had not seen"
    note(
        f"  {lesson.kind}: {whose} right on {lesson.teacher_accuracy:.1%} of {seen}; confident is "
        f"above {right:.6g} (correct) and {wrong:.6g} (wrong)"
    )
    counts = lesson.histogram
    total = sum(counts.values())
    for name, rows in counts.items():
        note(f"  {name:<18} {rows:>9,} rows {rows / total:>7.1%}")
    if lesson.warning:
        note(f"  warning: {lesson.warning}")


def _with_shares(then: Any) -> Any:
    """Say at the first step how the loss is made up, and warn when one term is nearly all of it."""

    def on_step(entry: Any) -> None:
        if entry.step == 1:
            from pipeline.training.live import shares

            of_terms = shares(entry.losses)
            text = ", ".join(f"{name} {share:.1%}" for name, share in of_terms.items())
            note(f"  loss {entry.losses['total']:.4f} at the first step: {text}")
            for name, share in of_terms.items():
                if share > SHARE_WARNING and len(of_terms) > 1:
                    note(
                        f"  warning: {name} is {share:.0%} of the loss; the others hardly count "
                        "(see --alpha, --beta, --temperature, --reduction)."
                    )
        then(entry)

    return on_step


def _summary(folder: Path, record: dict[str, Any]) -> str:
    lines = [
        (
            f"{folder}: {record['student_layers']} of {record['teacher_layers']} layers, "
            f"{record['parameters'] / 1e6:.1f} M parameters, best epoch {record['best_epoch']}, "
            f"{record['seconds']:.0f} s"
        ),
    ]
    if record.get("share", "none") != "none":
        lines.append(
            f"  {record['share']}: {record['block_passes']} block passes; "
            f"{record['parameters_expanded'] / 1e6:.1f} M parameters as saved"
        )
    if found := record.get("pretrain"):
        lines.append(f"  {found['kind']} before that: {found['seconds']:.0f} s")
    teacher = record["teacher"].get("scores") or {}
    for split, scores in record["scores"].items():
        text = ", ".join(
            f"{metric} {value:.4f} (teacher {teacher.get(split, {}).get(metric, float('nan')):.4f})"
            for metric, value in scores.items()
        )
        lines.append(f"  {split}: {text}")
    if warning := _no_better_than_chance(record):
        lines.append(f"  warning: {warning}")
    return "\n".join(lines)


def _no_better_than_chance(record: dict[str, Any]) -> str:
    """Advice for a student that has learned nothing, as far as its first split shows."""
    chance = record.get("chance") or {}
    scores = next(iter(record["scores"].values()))
    found = scores.get(chance.get("metric"))
    if found is None or found > chance["score"]:
        return ""
    return (
        f"{chance['metric']} is no better than chance ({chance['score']:.4f}): give it more "
        "--epochs or a higher --learning-rate."
    )
