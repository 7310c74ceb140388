"""`pkd-cache diff`: what differs between two caches, and by how much."""

from __future__ import annotations

import re
from typing import Any

import click

from stages.cache.tables import table
from stages.cli import Command, emit, json_option
from stages.progress import progress

DIGEST = re.compile(r"[0-9a-f]{64}")
DIGEST_SHOWN = 12  # characters
LONGEST_SHOWN = 48


@click.command(cls=Command)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Say what differs between two caches, and by how much.

    A and B are folders or URLs. Rows are the same when the teacher reads the same tokens; the
    values of those that both caches have are compared layer by layer. Exit code 0, whether they
    differ or not (`identical` in --json says which).

    \b
    Example:
      pkd-cache diff data/rte.zarr s3://team/rte.zarr
    """
    from pipeline.store.diff import diff_caches
    from pipeline.store.reader import TeacherCache

    with progress() as tick:
        found = diff_caches(TeacherCache.open(a), TeacherCache.open(b), tick)
    emit({"a": a, "b": b} | found.to_dict(), as_json, _text(a, b, found))


def _text(a: str, b: str, found: Any) -> str:
    if found.identical:
        return f"identical: {a} and {b} have the same content"
    parts = [
        [f"A: {a}", f"B: {b}", _verdict(found)],
        _fields_table(found.fields),
        _rows_table(found),
        _layers_table(found.layers),
        [f"not compared: {each}" for each in found.not_compared],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _verdict(found: Any) -> str:
    if "cache id" not in found.fields:
        same = "made from the same teacher, tokenizer, data and options (cache id)"
        return f"different, {same}; the bytes are of another machine, other libraries or --reuse"
    return "different"


def _fields_table(fields: dict[str, tuple[Any, Any]]) -> list[str]:
    rows = [[name, *map(_short, values)] for name, values in fields.items()]
    return table([["differs", "A", "B"], *rows], left=(0, 1, 2))


def _short(value: Any) -> str:
    """A value in a few characters; all of it is in --json."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "-" if value is None or value == "" else str(value)
    if DIGEST.fullmatch(text):
        return text[:DIGEST_SHOWN]
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _rows_table(found: Any) -> list[str]:
    header = ["split", "in both", "only A", "only B", "other label", "other id", "other place"]
    rows = [[*header, "logits: max", "other class"]]
    for name, each in found.splits.items():
        counts = (each.rows_both, each.only_a, each.only_b)
        changes = (each.labels_changed, each.ids_changed, each.moved)
        rows.append(
            [
                name,
                *(f"{count:,}" for count in counts + changes),
                "-" if each.logits_abs_max is None else f"{each.logits_abs_max:.1e}",
                "-" if each.classes_changed is None else f"{each.classes_changed:,}",
            ]
        )
    lines = table(rows) if found.splits else []
    only = (("A", found.splits_only_a), ("B", found.splits_only_b))
    return lines + [f"only {cache} has {', '.join(names)}" for cache, names in only if names]


def _layers_table(layers: dict[int, Any]) -> list[str]:
    if not layers:
        return []
    rows = [["layer", "L2 difference: max", "mean", "cosine: max", "mean"]]
    for layer, each in layers.items():
        l2 = (each.relative_l2_max, each.relative_l2_mean)
        cosine = (each.cosine_distance_max, each.cosine_distance_mean)
        rows.append([str(layer), *(f"{value:.1e}" for value in l2 + cosine)])
    return table(rows)
