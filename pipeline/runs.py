"""Run folders: training happens in a partial folder that can be resumed, and is published whole."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.digests import digest_json
from pipeline.errors import OutputExistsError
from pipeline.files import partial_path, publish, read_json, write_json
from pipeline.locks import locked
from pipeline.models import parameter_counts

STATE = ".state"  # checkpoint; gone from a published run
IDENTITY = "identity.json"
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


def finished_record(out: Path, record_name: str, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a finished run of the same identity; None when there is no output.

    Raises:
        OutputExistsError: the output came from other inputs or parameters; names what differs.
    """
    if not out.exists():
        return None
    path = out / record_name
    record = dict(read_json(path)) if path.is_file() else {}
    if record.get("identity") == identity:
        return record
    raise OutputExistsError(
        f"{out}: {_difference(record.get('identity') or {}, identity)}; "
        "pass --overwrite to replace it, or choose another --out."
    )


@contextmanager
def training_run(out: Path, identity: dict[str, Any], *, resume: bool) -> Iterator[Run]:
    """Yield a partial folder to train in, and publish it as `out` when the block succeeds.

    A run that stops leaves its partial folder, hidden beside `out`, for `--resume`.

    Args:
        out: the finished folder; replaced whole when it exists.
        identity: inputs and parameters; a checkpoint of another identity is not continued.
        resume: go on from a checkpoint of the same identity if there is one.
    """
    partial = partial_path(out)
    with locked(out):
        goes_on = resume and _identity_in(partial) == digest_json(identity)
        if not goes_on:
            shutil.rmtree(partial, ignore_errors=True)
            write_json(partial / STATE / IDENTITY, digest_json(identity))
        yield Run(folder=partial, resumed=goes_on and (partial / STATE / "last").exists())
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
        "threads": os.cpu_count(),
    }


def _identity_in(partial: Path) -> object:
    path = partial / STATE / IDENTITY
    return read_json(path) if path.is_file() else None


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first field that differs, params taken apart."""
    if not found:
        return "exists and is not a run of this command"
    flat_found, flat_wanted = _flat(found), _flat(wanted)
    for name in sorted(flat_found.keys() | flat_wanted.keys()):
        one, other = flat_found.get(name), flat_wanted.get(name)
        if one != other:
            return f"came from {name} {one}, asked for {other}"
    return "came from other inputs"


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k != "params"} | dict(value.get("params") or {})
