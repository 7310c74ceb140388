"""`pkd-cache`: stage one, and everything about a finished cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stages.cli import (
    commands,
    emit,
    json_option,
    note,
    overwrite_option,
    path_option,
    prepared_data,
    progress,
    resolve,
    task_named,
    task_option,
    with_params,
)


@commands("pkd-cache", "Build, look at and verify teacher caches.")
def cli() -> None:
    """The group."""


@cli.command()
@task_option
@click.option("--teacher", help="A folder or a hub id. [default: data/teachers/TASK]")
@path_option("--data", "Prepared data. [default: data/raw/TASK]")
@path_option("--out", "The cache. [default: data/TASK.zarr]")
@path_option("--metrics", "Timings, as JSON. [default: data/metrics/cache-TASK.json]")
@with_params("cache")
@overwrite_option
@json_option
def build(
    task: str,
    teacher: str | None,
    data: Path | None,
    out: Path | None,
    metrics: Path | None,
    overwrite: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Run a teacher once over the data and write its outputs to a cache.

    A build that was stopped goes on from its last finished shard when it is run again.

    \b
    Example:
      pkd-cache build --task rte
    """
    task_named(task)
    note(f"cache for {task}")
    values, _ = resolve("cache", flags, task)
    from pipeline.build import build_cache

    folder = out or Path(f"data/{task}.zarr")
    with progress() as tick:
        built = build_cache(
            prepared=prepared_data(task, data),
            teacher_name=teacher or f"data/teachers/{task}",
            out=folder,
            params=values,
            overwrite=overwrite,
            tick=tick,
        )
    for text in built.notes:
        note(text)
    from pipeline.build import timings
    from pipeline.files import write_json

    if built.existed:
        note(f"{folder}: built from the same teacher, data and options already; nothing to do.")
    else:
        write_json(metrics or Path(f"data/metrics/cache-{task}.json"), timings(built, folder))
    result = {"cache": str(folder), "existed": built.existed, "scores": built.scores}
    emit(result | {"cache_id": built.manifest.cache_id}, as_json, _built_text(folder, built))


def _built_text(folder: Path, built: Any) -> str:
    manifest = built.manifest
    rows = ", ".join(f"{split} {info.rows:,}" for split, info in manifest.splits.items())
    lines = [
        (
            f"{folder}: {rows} rows; layers {_layers(manifest.layers)} x {manifest.hidden_size} "
            f"{manifest.dtype}; {manifest.total_bytes / 1e6:.1f} MB"
        ),
        f"  computed {built.computed_rows:,} rows in {built.seconds:.0f} s"
        + (f", {built.resumed_shards} shards were there already" if built.resumed_shards else ""),
    ]
    for split, scores in built.scores.items():
        text = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
        lines.append(f"  teacher on {split}: {text}")
    lines.append(f"Next: pkd-student fit --cache {folder} --strategy skip")
    return "\n".join(lines)


@cli.command()
@click.argument("cache", type=click.Path(path_type=Path))
@json_option
def info(cache: Path, as_json: bool) -> None:
    """Say what a cache is, from its manifest alone.

    \b
    Example:
      pkd-cache info data/rte.zarr
    """
    from pipeline.store.manifest import read_manifest

    manifest = read_manifest(cache)
    emit(manifest.to_dict(), as_json, _info_text(cache, manifest))


def _info_text(cache: Path, manifest: Any) -> str:
    m = manifest
    labels = ", ".join(m.task["label_names"]) or "a number"
    base = (m.teacher.get("base") or {}).get("name", "unknown")
    rows = [
        ("cache", str(cache)),
        ("format", f"version {m.format_version}"),
        ("task", f"{m.task['name']}; labels {labels}; metric {m.task['metrics'][0]}"),
        ("teacher", f"{m.teacher['name']}, {m.teacher['layers']} layers, started from {base}"),
        ("", m.teacher["digest"]),
        ("tokenizer", f"{m.tokenizer['name']}, {m.tokenizer['vocab_size']:,} tokens"),
        ("max length", f"{m.max_length} tokens"),
        ("layers", f"{_layers(m.layers)} x {m.hidden_size}, {m.dtype}, computed in {m.compute}"),
        ("size", f"{m.total_bytes / 1e6:.1f} MB in {len(m.files)} files"),
        ("largest error", _error_text(m.measured_error)),
        ("cache id", m.cache_id),
        ("content", m.content_digest),
    ]
    lines = [f"{name:<14} {value}" for name, value in rows]
    for split, each in m.splits.items():
        scores = m.teacher["scores"].get(split, {})
        text = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
        lines.append(
            f"{split:<14} {each.rows:,} rows ({each.labelled_rows:,} labelled), "
            f"{each.tokens / max(each.rows, 1):.1f} tokens a row" + (f"; {text}" if text else "")
        )
    return "\n".join(lines)


def _error_text(error: dict[str, Any]) -> str:
    worst = max(each["relative_l2_max"] for each in error["layers"].values())
    return f"{worst:.2g} of a [CLS] vector's length (measured on {error['rows']} rows)"


def _layers(layers: tuple[int, ...]) -> str:
    contiguous = list(layers) == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1
    return f"{layers[0]}..{layers[-1]}" if contiguous else ",".join(str(each) for each in layers)


@cli.command()
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--teacher", help="Also run this teacher on sampled rows and compare.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Rows per split to run again.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
@json_option
def verify(cache: Path, teacher: str | None, rows: int, device: str, as_json: bool) -> None:
    """Check every file and every value of a cache against its digests.

    Exit code 1 when anything is wrong; each finding names the file.

    \b
    Example:
      pkd-cache verify data/rte.zarr --teacher data/teachers/rte
    """
    from pipeline.store.check import check_cache

    with progress() as tick:
        findings = check_cache(cache, tick)
    result: dict[str, Any] = {"cache": str(cache), "findings": [vars(each) for each in findings]}
    lines = [f"{each.file}: {each.problem}" for each in findings] or [f"{cache}: sound"]
    if teacher and not findings:
        from pipeline.rerun import rerun

        again = rerun(cache, teacher, rows, device)
        result["rerun"] = again
        lines.append(_rerun_text(again))
    emit(result, as_json, "\n".join(lines))
    sys.exit(1 if findings else 0)


def _rerun_text(error: dict[str, Any]) -> str:
    header = "layer   relative L2: largest   mean      cosine distance: largest   mean"
    rows = [
        f"{layer:>5}   {each['relative_l2_max']:>20.2e}   {each['relative_l2_mean']:.2e}  "
        f"{each['cosine_distance_max']:>24.2e}   {each['cosine_distance_mean']:.2e}"
        for layer, each in error["layers"].items()
    ]
    largest = f"largest error of a logit: {error['logits_abs_max']:.2e}"
    return "\n".join([f"teacher run again on {error['rows']} rows:", header, *rows, largest])
