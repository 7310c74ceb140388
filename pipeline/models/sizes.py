"""How large a classifier is, by part, as the papers count it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.files import read_json

BLOCKS = ("encoder.", "transformer.")  # BERT and its kin; DistilBERT


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Parameters, each counted once, also where layers share them."""

    layers: int
    passes: int
    """Blocks that an input goes through; more than `layers` where layers are shared."""
    embeddings: int
    blocks: int
    head: int
    """Pooler and classification head."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embeddings + self.blocks + self.head

    def to_dict(self) -> dict[str, int]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Sizes:
        """Inverse of `to_dict`."""
        return cls(**{name: int(content[name]) for name in cls.__dataclass_fields__})


def sizes_of(model: Any, folder: Path) -> Sizes:
    """Sizes of a loaded classifier.

    Args:
        model: a `transformers` classifier; one that shared layers holds copies of them.
        folder: where it came from; the record of a student says what was shared.
    """
    total = sum(p.numel() for p in model.parameters())
    parts = {"embeddings": 0, "blocks": 0}
    for name, parameter in model.base_model.named_parameters():
        if name.startswith(BLOCKS):
            parts["blocks"] += parameter.numel()
        elif name.startswith("embeddings"):
            parts["embeddings"] += parameter.numel()
    head = total - sum(parts.values())
    passes = layers = int(model.config.num_hidden_layers)
    path = folder / "run.json"
    record = read_json(path) if path.is_file() else {}
    if record.get("share", "none") != "none":
        layers = int(record["student_layers"])
        parts["blocks"] = int(record["parameters"]) - parts["embeddings"] - head
    return Sizes(layers=layers, passes=passes, head=head, **parts)


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Parameters in all, and of the input embeddings alone."""
    total = sum(parameter.numel() for parameter in model.parameters())
    embeddings: Any = model
    tokens = sum(p.numel() for p in embeddings.get_input_embeddings().parameters())
    return {"total": total, "token_embeddings": tokens}
