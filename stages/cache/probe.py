"""`pkd-cache probe`: what each layer knows of the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stages.cli import Command, cache_argument, emit, json_option, note, path_option
from stages.progress import progress

BAR = 40  # characters
PICTURES = (".png", ".svg", ".pdf")  # the first one where a name has no ending


def _picture(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """The file that will be drawn; refused before the probes are fitted where none could be."""
    if path is None or path.suffix.lower() in PICTURES:
        return path
    stem = path.name.rstrip(".")
    if stem and path.suffix in ("", "."):
        return path.with_name(stem + PICTURES[0])
    endings = ", ".join(PICTURES)
    raise click.BadParameter(f"{path}: expected a name that ends in {endings}.")


@click.command(cls=Command)
@cache_argument
@click.option(
    "--rows",
    type=click.IntRange(min=20),
    default=4000,
    show_default=True,
    help="Training rows to draw; a fifth of them scores the probes.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw."
)
@path_option(
    "--plot", f"Also draw the curve into this file ({', '.join(PICTURES)}).", callback=_picture
)
@path_option("--out", "Also keep the scores here; pkd-report draws data/metrics/probe-TASK.json.")
@json_option
def probe(
    cache: str, rows: int, seed: int, plot: Path | None, out: Path | None, as_json: bool
) -> None:
    """Fit a linear probe on each cached layer: where does the teacher know the task?

    Needs no teacher and no GPU. `--strategy auto` chooses layers by the same probes.

    \b
    Example:
      pkd-cache probe data/rte.zarr --plot probe.png
    """
    from pipeline.files import write_json
    from pipeline.probe.layers import probe_layers
    from pipeline.store.reader import TeacherCache

    opened = TeacherCache.open(cache)
    with progress() as tick:
        found = probe_layers(opened, max_rows=rows, seed=seed, tick=tick)
    metric = str(opened.manifest.task["metrics"][0])
    if plot:
        from pipeline.probe.figure import draw_probe

        draw_probe(found, metric, plot)
        note(f"{plot}: drawn")
    layers = [vars(each) for each in found]
    if out:
        write_json(out, {"task": opened.manifest.task["name"], "metric": metric, "layers": layers})
        note(f"{out}: written")
    result = {"cache": cache, "metric": metric, "layers": layers}
    emit(result, as_json, _text(found, metric))


def _text(found: list[Any], metric: str) -> str:
    top = max(each.held_out for each in found)
    lines = [f"{'layer':>5}  {'held out':>8}  {'validation':>10}  {metric} on the held-out fifth"]
    for each in found:
        validation = "-" if each.validation is None else f"{each.validation:.4f}"
        bar = "█" * round(BAR * max(0.0, each.held_out) / max(top, 1e-9))
        lines.append(f"{each.layer:>5}  {each.held_out:>8.4f}  {validation:>10}  {bar}")
    return "\n".join(lines)
