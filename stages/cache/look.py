"""`pkd-cache info` and `verify`: what a cache is, and whether it is whole."""

from __future__ import annotations

import sys
from typing import Any

import click

from stages.cache.words import layers_text
from stages.cli import cache_argument, emit, json_option, progress


@click.command()
@cache_argument
@json_option
def info(cache: str, as_json: bool) -> None:
    """Say what a cache is, from its manifest alone.

    \b
    Example:
      pkd-cache info data/rte.zarr
    """
    from pipeline.store.manifest import read_manifest

    manifest = read_manifest(cache)
    emit(manifest.to_dict(), as_json, _info_text(cache, manifest))


def _info_text(cache: str, manifest: Any) -> str:
    m = manifest
    labels = ", ".join(m.task["label_names"]) or "a number"
    base = (m.teacher.get("base") or {}).get("name", "unknown")
    rows = [
        ("cache", cache),
        ("format", f"version {m.format_version}"),
        ("task", f"{m.task['name']}; labels {labels}; metric {m.task['metrics'][0]}"),
        ("teacher", f"{m.teacher['name']}, {m.teacher['layers']} layers, started from {base}"),
        ("", m.teacher["digest"]),
        ("tokenizer", f"{m.tokenizer['name']}, {m.tokenizer['vocab_size']:,} tokens"),
        ("max length", f"{m.max_length} tokens"),
        (
            "layers",
            f"{layers_text(m.layers)} x {m.hidden_size}, {m.dtype}, computed in {m.compute}",
        ),
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


@click.command()
@cache_argument
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
def verify(cache: str, teacher: str | None, rows: int, device: str, as_json: bool) -> None:
    """Check every file and every value of a cache against its digests.

    Exit code 1 when anything is wrong; each finding names the file.

    \b
    Example:
      pkd-cache verify data/rte.zarr --teacher data/teachers/rte
    """
    from pipeline.store.check import check_cache

    with progress() as tick:
        findings = check_cache(cache, tick)
    result: dict[str, Any] = {"cache": cache, "findings": [vars(each) for each in findings]}
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
