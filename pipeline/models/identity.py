"""What a model and its tokenizer are, by digest: for records of runs and caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.digests import digest_file, digest_json, digest_model, digest_tokenizer
from pipeline.errors import ModelError
from pipeline.models.load import is_hub_id, load_config

WEIGHT_FILES = ("*.safetensors", "*.bin")


@dataclass(frozen=True, kw_only=True)
class Init:
    """Which pretrained encoder a model started from."""

    name: str
    """Hub id, or the folder's name - never a path."""
    hub_id: str | None
    """None for a folder."""
    digest: str | None
    """Of a folder's weight files and configuration; of the hub, the revision."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "hub_id": self.hub_id, "digest": self.digest}


def identify_model(model: nn.Module) -> str:
    """Digest of a loaded model's weights and configuration."""
    config: Any = model.config
    return digest_model(model.state_dict(), config.to_dict())


def identify_init(name: str) -> Init:
    """Identity of a pretrained encoder: a hub id and its revision, or a folder's name and digest.

    Raises:
        ModelError: it cannot be found, or the folder holds no weights.
    """
    config = load_config(name)
    if is_hub_id(name):
        revision = getattr(config, "_commit_hash", None)
        return Init(name=name, hub_id=name, digest=f"revision {revision}" if revision else None)
    folder = Path(name).expanduser().resolve()
    files = [path for kind in WEIGHT_FILES for path in folder.glob(kind)]
    if not files:
        raise ModelError(f"{name}: no weights (*.safetensors or *.bin) in that folder.")
    digests = {path.name: digest_file(path) for path in (*files, folder / "config.json")}
    return Init(name=folder.name, hub_id=None, digest=digest_json(digests))


def identify_tokenizer(tokenizer: Any, name: str) -> dict[str, Any]:
    """What a cache or run records of its tokenizer."""
    return {
        "name": Path(name).expanduser().resolve().name if not is_hub_id(name) else name,
        "digest": digest_tokenizer(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
    }
