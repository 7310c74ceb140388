"""`pkd-student`: stage two, students from a cache."""

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
    progress,
    resolve,
    resume_option,
    step_ticks,
    with_params,
)
from stages.sweep_table import sweep_table

cache_option = click.option(
    "--cache", required=True, help="A finished cache: data/rte.zarr, or any fsspec URL."
)


@commands("pkd-student", "Train and score students from a teacher cache.")
def cli() -> None:
    """The group."""


@cli.command()
@click.option(
    "--cache",
    required=True,
    multiple=True,
    help="A finished cache: data/rte.zarr, or any fsspec URL. Several: one for each teacher.",
)
@path_option("--out", "The student. [default: data/students/TASK-STRATEGY-LAYERS-sSEED]")
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
    from pipeline.fit_student import fit_student
    from pipeline.store.place import traffic

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


SHARE_WARNING = 0.9


def _with_shares(then: Any) -> Any:
    """Say at the first step how the loss is made up, and warn when one term is nearly all of it."""

    def on_step(entry: Any) -> None:
        if entry.step == 1:
            from pipeline.live import shares

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


@cli.command()
@cache_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUES",
    help="What varies: temperature=5,10 or learning_rate=1e-5..1e-4:log. Repeatable.",
)
@click.option("--name", help="The sweep. [default: TASK-sweep]")
@path_option("--out", "Where the students go. [default: data/students]")
@click.option(
    "--sampler",
    type=click.Choice(["grid", "tpe", "random"]),
    default="grid",
    show_default=True,
    help="All points, or --trials of them as Optuna's sampler draws them.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Students of tpe and random.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes. [default: one a core; 4 on a GPU]"
)
@click.option("--storage", help="An Optuna storage that machines share, such as postgresql://...")
@with_params("student")
@overwrite_option
@json_option
def sweep(
    cache: str,
    settings: tuple[str, ...],
    name: str | None,
    out: Path | None,
    sampler: str,
    trials: int | None,
    workers: int | None,
    storage: str | None,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train many students from one cache, several at a time.

    The cache is read once. A sweep that was stopped goes on with the same command. A preset brings
    its grid along; --set adds to it, or replaces a part. The result is in
    data/metrics/sweep-NAME.json; every student is a folder as of `fit`, for `pkd-report`.

    \b
    Example:
      pkd-student sweep --cache data/rte.zarr --set strategy=kd,skip --set temperature=5,10,20
      pkd-student sweep --cache data/rte.zarr --preset pkd2019
    """
    from pipeline.presets import load_preset
    from pipeline.store.manifest import read_manifest
    from pipeline.sweep.run import run_sweep
    from pipeline.sweep.space import parse_space

    task = str(read_manifest(cache).task["name"])
    note(f"sweep for {task} from {cache}")
    values, sources = resolve("student", flags, task)
    space = parse_space(settings, load_preset(values.preset).grid if values.preset else None)
    with sweep_table(f"{name or f'{task}-sweep'}", list(space)) as on_change:
        result = run_sweep(
            cache_path=cache,
            space=space,
            base=values,
            sources=sources,
            name=name or f"{task}-sweep",
            out=out or Path("data/students"),
            sampler=sampler,
            trials=trials,
            workers=workers,
            storage=storage,
            overwrite=overwrite,
            on_change=on_change,
        )
    emit(result, as_json, _sweep_summary(result))
    if not result["best"]:
        raise click.exceptions.Exit(1)


def _sweep_summary(result: dict[str, Any]) -> str:
    lines = [f"{result['name']}: {len(result['scores'])} students, {result['seconds']:.0f} s"]
    for name, score in list(result["scores"].items())[:10]:
        lines.append(f"  {result['metric']} {score:.4f}  {name}")
    if len(result["scores"]) > 10:
        lines.append(f"  and {len(result['scores']) - 10} more, in data/metrics")
    for name, error in result["failed"].items():
        lines.append(f"  failed: {name}: {error}")
    return "\n".join(lines)


@cli.command("eval")
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
    from pipeline.score_student import score_student

    scores = score_student(student, cache, split, logits, device)
    lines = [
        f"{name}: " + (", ".join(f"{m} {value:.4f}" for m, value in each.items()) or "no labels")
        for name, each in scores.items()
    ]
    emit({"student": str(student), "scores": scores}, as_json, "\n".join(lines))


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
    return "\n".join(lines)


if __name__ == "__main__":  # for launchers: `torchrun --nproc-per-node 2 -m stages.student fit`
    cli(prog_name="pkd-student")
