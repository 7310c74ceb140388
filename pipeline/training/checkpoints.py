"""What a run keeps while it trains: a checkpoint to go on from, and the weights that it will keep.

STATE/last/               of the last epoch: weights, optimizer, random numbers, progress.json
STATE/best.safetensors    weights of the best epoch, or of the last where that is to be kept
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.files import naming_full_disk, read_json, write_json
from pipeline.workers import Workers


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; saved with every checkpoint."""

    epoch: int = 0
    """Epochs finished."""
    seconds: float = 0.0
    """Training and evaluation, over all sessions."""
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)
    """One record per epoch: epoch, step, learning_rate, losses (means), scores, seconds."""


def finish_epoch(
    accelerator: Any,
    model: Any,
    progress: Progress,
    record: dict[str, Any],
    state: Path,
    *,
    keep: str,
    workers: Workers,
) -> None:
    """Keep the best (or last) weights, then the checkpoint that `--resume` goes on from."""
    scores = next(iter(record["scores"].values()))
    score = next(iter(scores.values()))
    if better := keep == "last" or score > progress.best_score:
        progress.best_score, progress.best_epoch = score, record["epoch"]
    state.mkdir(parents=True, exist_ok=True)
    progress.epoch = record["epoch"]
    progress.seconds += record["seconds"]
    progress.history.append(record)
    with naming_full_disk(state):
        if better and workers.leads:
            _keep_weights(accelerator.unwrap_model(model), state / "best.safetensors")
        _replace(
            state / "last", lambda path: _checkpoint(accelerator, progress, path, workers), workers
        )


def _keep_weights(model: Any, target: Path) -> None:
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _replace(target, lambda path: save_file(_unshared(weights), path))


def _unshared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tied weights, because safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    result = {}
    for name, tensor in weights.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return result


def _checkpoint(accelerator: Any, progress: Progress, folder: Path, workers: Workers) -> None:
    """Model and optimizer are the first process's, states of random numbers each one's own."""
    accelerator.save_state(str(folder), safe_serialization=True)
    if workers.leads:
        write_json(folder / "progress.json", progress.__dict__)


def _replace(target: Path, write: Callable[[Path], object], workers: Workers | None = None) -> None:
    """Write beside `target`, then take its place; a kill leaves the old one or the new one."""
    workers = workers or Workers()
    fresh = target.with_name(f"new-{target.name}")
    old = target.with_name(f"old-{target.name}")
    if workers.leads:
        if old.is_dir() and not target.exists():  # killed between the two renames below
            old.rename(target)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    workers.meet()
    write(fresh)
    workers.meet()
    if workers.leads:
        if target.is_dir():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    workers.meet()


def has_checkpoint(state: Path) -> bool:
    """Whether a run can go on from `state`."""
    return _checkpoint_in(state) is not None


def checkpoint_step(state: Path) -> int:
    """The last step before the checkpoint in `state`."""
    folder = _checkpoint_in(state)
    return int(read_json(folder / "progress.json")["history"][-1]["step"]) if folder else 0


def _checkpoint_in(state: Path) -> Path | None:
    for name in ("last", "old-last"):  # the second when killed between two renames
        if (state / name / "progress.json").exists():
            return state / name
    return None


def restore(accelerator: Any, state: Path) -> Progress:
    """Go on from the checkpoint in `state`; a new progress where there is none."""
    folder = _checkpoint_in(state)
    if folder is None:
        return Progress()
    accelerator.load_state(str(folder))
    return Progress(**read_json(folder / "progress.json"))


def load_best(accelerator: Any, model: Any, state: Path) -> None:
    """Give a model the weights that were kept."""
    from safetensors.torch import load_file

    accelerator.unwrap_model(model).load_state_dict(load_file(state / "best.safetensors"))
