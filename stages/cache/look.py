"""`pkd-cache info` and `verify`: what a cache is, and whether it is whole."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.store.describe import derive, length_bins, split_order
from pipeline.store.format import CLS, EXAMPLES, METADATA
from stages.cache.tables import bar, facts, percent, size_text, table
from stages.cache.words import layers_text
from stages.cli import Command, cache_argument, emit, json_option
from stages.progress import progress

FILE_KINDS = {EXAMPLES: "examples", METADATA: "metadata"}


@click.command(cls=Command)
@cache_argument
@json_option
def info(cache: str, as_json: bool) -> None:
    """Say what a cache is, from its manifest alone.

    CACHE is a folder or a URL. --json prints the manifest, and under `derived` what follows from
    it: sizes in bytes, shares and ratios.

    \b
    Example:
      pkd-cache info data/rte.zarr
    """
    from pipeline.store.manifest import read_manifest

    manifest = read_manifest(cache)
    derived = derive(manifest)
    result = manifest.to_dict() | {"derived": derived}
    emit(result, as_json, _info_text(cache, manifest, derived))


def _info_text(cache: str, manifest: Any, derived: dict[str, Any]) -> str:
    parts = [
        facts(_facts(cache, manifest, derived)),
        _splits_table(manifest, derived),
        _lengths_table(manifest),
        _layers_table(manifest, derived),
        facts(_identity(manifest)),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _facts(cache: str, m: Any, derived: dict[str, Any]) -> list[tuple[str, str]]:
    labels = ", ".join(m.task["label_names"]) or "a number"
    base = (m.teacher.get("base") or {}).get("name", "unknown")
    made_from = f"{m.teacher['parameters']:,} parameters, started from {base}"
    raw, ratio = size_text(derived["raw_bytes"]), derived["ratio"]
    return [
        ("cache", cache),
        ("format", f"version {m.format_version}"),
        ("task", f"{m.task['name']}; labels {labels}; metric {m.task['metrics'][0]}"),
        ("teacher", f"{m.teacher['name']}, {m.teacher['layers']} layers, {made_from}"),
        ("tokenizer", f"{m.tokenizer['name']}, {m.tokenizer['vocab_size']:,} tokens"),
        ("max length", f"{m.max_length} tokens"),
        (
            "layers",
            f"{layers_text(m.layers)} x {m.hidden_size}, {m.dtype}, computed in {m.compute}",
        ),
        ("size", f"{size_text(m.total_bytes)} in {len(m.files)} files"),
        ("compression", f"ratio {ratio:.2f}, of {raw} of vectors and logits"),
        ("largest error", _error_text(m.measured_error)),
        ("reused", _reused_text(m.reused)),
        ("libraries", ", ".join(f"{n} {v}" for n, v in sorted(m.versions.items())) or "unknown"),
    ]


def _error_text(error: dict[str, Any]) -> str:
    worst = max(each["relative_l2_max"] for each in error["layers"].values())
    return (
        f"{worst:.2g} of a [CLS] vector's length, {error['logits_abs_max']:.2g} of a logit "
        f"(measured on {error['rows']:,} rows)"
    )


def _reused_text(reused: dict[str, Any]) -> str:
    if not reused["rows"]:
        return "no rows of an earlier cache"
    return f"{reused['rows']:,} rows of the cache with content {reused['content_digest']}"


def _splits_table(m: Any, derived: dict[str, Any]) -> list[str]:
    rows = [["split", "rows", "labelled", "tokens", "a row", "agrees", "teacher's scores"]]
    for name in split_order(m.splits):
        split, agreement = m.splits[name], m.teacher["agreement"].get(name)
        rows.append(
            [
                name,
                f"{split.rows:,}",
                f"{split.labelled_rows:,}",
                f"{split.tokens:,}",
                f"{derived['splits'][name]['mean_tokens']:.1f}",
                "-" if agreement is None else percent(agreement),
                _scores_text(m.teacher["scores"].get(name, {}), m.task["metrics"]) or "-",
            ]
        )
        unseen = f"{name}, out of fold"
        if unseen in m.teacher["agreement"]:
            agrees = percent(m.teacher["agreement"][unseen])
            rows.append([f"  {name}, out of fold", "", "", "", "", agrees, ""])
    return table(rows, left=(0, 6))


def _scores_text(scores: dict[str, float], metrics: list[str]) -> str:
    """The task's main metric first, as tables of results have it."""
    names = [*(name for name in metrics if name in scores), *sorted({*scores} - {*metrics})]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in names)


def _lengths_table(m: Any) -> list[str]:
    """Rows by length in tokens, all splits beside each other, with a bar for their sum."""
    names, bins = split_order(m.splits), length_bins(m)
    totals = {label: sum(of_split.values()) for label, of_split in bins.items()}
    largest = max(totals.values(), default=0)
    rows = [["tokens", *names, "rows of that length"]]
    for label, of_split in bins.items():
        counts = [f"{of_split.get(name, 0):,}" for name in names]
        rows.append([label, *counts, bar(totals[label], largest)])
    return table(rows, left=(0, len(names) + 1))


def _layers_table(m: Any, derived: dict[str, Any]) -> list[str]:
    """What is stored: bytes on disk, and how exact the vectors are."""
    errors = ("relative_l2_max", "relative_l2_mean", "cosine_distance_max", "cosine_distance_mean")
    header = ["layer", "on disk", "share", "ratio", "L2 error: max", "mean", "cosine: max", "mean"]
    rows: list[list[str]] = [header]
    for layer, found in derived["layers"].items():
        error = m.measured_error["layers"][layer]
        size = [size_text(found["bytes"]), percent(found["share"]), f"{found['ratio']:.2f}"]
        rows.append([layer, *size, *(f"{error[name]:.1e}" for name in errors)])
    other = dict(derived["parts"])
    other["shard indexes"] = other.pop(CLS) - sum(e["bytes"] for e in derived["layers"].values())
    for name, size_bytes in other.items():
        share = percent(size_bytes / m.total_bytes)
        rows.append([FILE_KINDS.get(name) or name, size_text(size_bytes), share, *[""] * 5])
    return table(rows)


def _identity(m: Any) -> list[tuple[str, str]]:
    return [
        ("teacher", m.teacher["digest"]),
        ("tokenizer", m.tokenizer["digest"]),
        ("data", m.data_digest),
        ("cache id", m.cache_id),
        ("content", m.content_digest),
    ]


@click.command(cls=Command)
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
        from pipeline.caching.rerun import rerun

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
