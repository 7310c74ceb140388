"""Run folders: training happens in a partial folder that can be resumed, and is published whole."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.digests import digest_json
from pipeline.errors import OutputExistsError
from pipeline.existing import has_weights, must_build
from pipeline.files import partial_path, publish, read_json, write_json
from pipeline.locks import locked
from pipeline.models.sizes import parameter_counts
from pipeline.params import FitParams
from pipeline.training.checkpoints import has_checkpoint
from pipeline.workers import Workers

STATE = ".state"  # checkpoint; gone from a published run
IDENTITY = "identity.json"
NOT_IDENTITY = ("preset", "init", "eval_batch_size", "packed", "device", "report_to")
LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run under way."""

    folder: Path
    """The partial folder."""
    resumed: bool
    """Whether it goes on from a checkpoint."""

    @property
    def state(self) -> Path:
        """Where checkpoints go."""
        return self.folder / STATE


def identifying(params: FitParams) -> dict[str, Any]:
    """The parameters that make a run another one; its init is identified by digest."""
    return {key: value for key, value in asdict(params).items() if key not in NOT_IDENTITY}


def finished_record(
    out: Path, record_name: str, identity: dict[str, Any], *, overwrite: bool
) -> dict[str, Any] | None:
    """The record of a finished run of the same identity; None when the run is to be made.

    A run whose weights are gone is made again.

    Raises:
        OutputExistsError: the output came from other inputs or parameters (names what differs) and
            `overwrite` is off, or no command of ours made it.
    """
    if must_build(out, record_name, {"identity": identity}, overwrite=overwrite):
        return None
    return dict(read_json(out / record_name)) if has_weights(out) else None


@contextmanager
def training_run(
    out: Path, identity: dict[str, Any], *, resume: bool, workers: Workers | None = None
) -> Iterator[Run]:
    """Yield a partial folder to train in, and publish it as `out` when the block succeeds.

    A run that stops leaves its partial folder, hidden beside `out`, for `--resume`.

    Args:
        out: the finished folder; replaced whole when it exists.
        identity: inputs and parameters; a checkpoint of another identity is not continued.
        resume: go on from a checkpoint of the same identity if there is one.
        workers: processes of one run; the first one prepares the folder, and publishes it.
    """
    workers = workers or Workers()
    if not workers.leads:
        workers.meet()  # the folder is prepared
        state = partial_path(out) / STATE
        yield Run(folder=partial_path(out), resumed=has_checkpoint(state))
        workers.meet()  # nobody reads it any more
        return
    partial = partial_path(out)
    replaces = out.exists()
    with locked(out):
        if out.exists() and not replaces:
            raise OutputExistsError(f"{out}: another process has just made it.")
        goes_on = resume and _identity_in(partial) == digest_json(identity)
        if not goes_on:
            shutil.rmtree(partial, ignore_errors=True)
            write_json(partial / STATE / IDENTITY, digest_json(identity))
        workers.meet()
        yield Run(folder=partial, resumed=goes_on and has_checkpoint(partial / STATE))
        workers.meet()
        shutil.rmtree(partial / STATE)
        publish(partial, out)


def describe_result(model: Any, folder: Path) -> dict[str, Any]:
    """Size of a saved model, and the libraries it came from."""
    counts = parameter_counts(model)
    weights = folder.glob("*.safetensors")
    return {
        "parameters": counts["total"],
        "token_embedding_parameters": counts["token_embeddings"],
        "size_bytes": sum(path.stat().st_size for path in weights),
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES}
        | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
    }


def _identity_in(partial: Path) -> object:
    path = partial / STATE / IDENTITY
    return read_json(path) if path.is_file() else None
