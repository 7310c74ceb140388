"""Identity: digests of files, rows, weights and tokenizers, whatever way they were saved."""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import canonical_json

if TYPE_CHECKING:
    import numpy as np

ROW_DIGEST_BYTES = 16

# what `save_pretrained` and library versions rewrite without changing what a model computes
VOLATILE_CONFIG_KEYS = frozenset(
    {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
)


def digest_json(value: object) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_array(array: np.ndarray[Any, Any]) -> str:
    """sha256 of an array's values in C order, little-endian; its shape and dtype are part of it."""
    import numpy as np

    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode())
    digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def row_digest(input_ids: list[int], token_type_ids: list[int] | None) -> bytes:
    """blake2b (16 bytes) of one row as the teacher reads it."""
    digest = hashlib.blake2b(_int32(input_ids), digest_size=ROW_DIGEST_BYTES)
    if token_type_ids is not None:
        digest.update(b"|")
        digest.update(_int32(token_type_ids))
    return digest.digest()


def _int32(values: list[int]) -> bytes:
    packed = array("i", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def digest_model(state: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """sha256 over named weights and the configuration that changes what they compute.

    Independent of file layout: a sharded checkpoint and a single file of it agree.

    Args:
        state: `model.state_dict()`; any floating or integer torch tensors.
        config: `model.config.to_dict()`.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    kept = {key: value for key, value in config.items() if key not in VOLATILE_CONFIG_KEYS}
    digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def digest_tokenizer(tokenizer: Any) -> str:
    """sha256 of what decides the ids of a text: vocabulary, special tokens, normalisation.

    Truncation and padding are left out: `save_pretrained` rewrites them, and callers set them.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    parts = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor")
    special = {
        name: getattr(tokenizer, f"{name}_id")
        for name in ("cls_token", "sep_token", "pad_token", "mask_token", "unk_token")
    }
    return digest_json({part: backend.get(part) for part in parts} | {"special": special})
