"""`pkd-cache export`: a cache as one Parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cache.tables import size_text
from stages.cli import Command, cache_argument, emit, json_option, note, overwrite_option
from stages.progress import progress


@click.command(cls=Command)
@cache_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--layers",
    default="all",
    show_default=True,
    help="Teacher layers: all, none (the logits alone), or a list such as 4,8.",
)
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.")
@overwrite_option
@json_option
def export(
    cache: str, out: Path, layers: str, splits: tuple[str, ...], overwrite: bool, as_json: bool
) -> None:
    """Write a cache as one Parquet table, for your own tools.

    Columns: split, example_id, input_ids, token_type_ids, label, row_digest, logits and layer_1,
    layer_2, ... The file is read back and compared with the cache before it gets its name. CACHE is
    a folder or a URL.

    \b
    Example:
      pkd-cache export data/rte.zarr rte.parquet --layers 4,8
    """
    chosen = parse_layers(layers)
    from pipeline.store.export import export_cache
    from pipeline.store.reader import TeacherCache

    with progress() as tick:
        found = export_cache(
            TeacherCache.open(cache),
            out,
            layers=chosen,
            splits=splits or None,
            overwrite=overwrite,
            tick=tick,
        )
    if found.existed:
        note(f"{out}: exported from the same cache already; nothing to do.")
    emit({"out": str(out)} | vars(found), as_json, _text(out, found))


def parse_layers(text: str) -> tuple[int, ...] | None:
    """`4,8` as (4, 8), `none` as (), `all` as None; raises click's usage error otherwise."""
    if text in ("all", "none"):
        return None if text == "all" else ()
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"--layers {text}: expected all, none, or a list such as 4,8.")
    return tuple(int(part) for part in parts)


def _text(out: Path, found: Any) -> str:
    rows = ", ".join(f"{split} {count:,}" for split, count in found.rows.items())
    layers = ", ".join(str(layer) for layer in found.layers) or "none"
    lines = [f"{out}: {rows} rows; layers {layers}; {size_text(found.size_bytes)}"]
    if not found.existed:
        lines.append("  read back: tokens, labels, logits and vectors are those of the cache")
    return "\n".join(lines)
