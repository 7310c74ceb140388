"""The demo's own base model, pretrained here because nothing can be downloaded for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError
from pipeline.existing import has_weights, must_build
from pipeline.files import building, read_json, write_json
from pipeline.locks import locked
from pipeline.params import BaseParams
from pipeline.progress import Tick, silent

RECORD = "base.json"
FORMAT = 1


def build_base(
    params: BaseParams, out: Path, *, overwrite: bool = False, tick: Tick = silent
) -> tuple[dict[str, Any], bool]:
    """Pretrain and publish the base model of the demo.

    Args:
        params: size and training.
        out: the folder to publish; a Hugging Face model folder.
        overwrite: replace another model there.
        tick: told of every step.

    Returns:
        The record, and whether `out` was written; False when it was there already, weights and all.

    Raises:
        ParamsError: sizes that do not fit each other.
        OutputExistsError: `out` holds something else.
        BusyError: another process is building the same folder.
    """
    _check_sizes(params)
    identity = {"format": FORMAT, "settings": asdict(params)}
    with locked(out):
        if not must_build(out, RECORD, identity, overwrite=overwrite) and has_weights(out):
            return dict(read_json(out / RECORD)), False
        with building(out) as folder:
            record = {**identity, **_pretrain(params, folder, tick)}
            write_json(folder / RECORD, record)
    return record, True


def _pretrain(params: BaseParams, folder: Path, tick: Tick) -> dict[str, Any]:
    from pipeline.demo.pretrain import PretrainSettings, pretrain_base
    from pipeline.models.load import quiet_libraries

    quiet_libraries()

    def on_step(done: int, total: int, loss: float) -> None:
        tick("pretraining", done, total, loss=loss)

    return pretrain_base(folder, settings=PretrainSettings(**asdict(params)), on_step=on_step)


def _check_sizes(params: BaseParams) -> None:
    if params.hidden_size % params.heads:
        raise ParamsError(
            f"--hidden-size {params.hidden_size} is no multiple of --heads {params.heads}."
        )
