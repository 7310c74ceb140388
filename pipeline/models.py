"""Encoders and tokenizers from Hugging Face: loading, cutting to depth, and their identity."""

from __future__ import annotations

from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.digests import digest_file, digest_json, digest_model, digest_tokenizer
from pipeline.errors import ModelError
from pipeline.files import read_json
from pipeline.tasks import Task

DROPOUT_KEYS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
    "pooler_dropout",
    "summary_last_dropout",
)
DEFAULT_MAX_LENGTH = 128  # tokens, where a teacher has no record of its own
TEACHER_RECORD = "teacher.json"
COUNTS_POSITIONS_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
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


def quiet_libraries() -> None:
    """Keep transformers' load reports and bars off a person's screen."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    # at every checkpoint of a student that shares its layers it tells that it stores them once
    getLogger("accelerate.utils.other").setLevel(ERROR)


def is_hub_id(name: str) -> bool:
    """Whether a model name means the hub: it is no folder here, and has the form `owner/name`."""
    path = Path(name).expanduser()
    looks_like_path = name.startswith((".", "/", "~", "data/")) or name.count("/") > 1
    beside_others = path.parent != Path() and path.parent.is_dir()
    return not (path.is_dir() or looks_like_path or beside_others)


def load_config(name: str) -> Any:
    """The model's configuration; raises ModelError when it cannot be found or read."""
    from transformers import AutoConfig

    return _loaded("configuration", AutoConfig.from_pretrained, name)


def load_tokenizer(name: str) -> Any:
    """A fast tokenizer that pads on the right and starts every input with its [CLS].

    Raises:
        ModelError: none found, no fast version, or the first token is not the classification token.
    """
    from transformers import AutoTokenizer

    tokenizer = _loaded("tokenizer", AutoTokenizer.from_pretrained, name)
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: has no fast tokenizer (tokenizer.json); convert it first.")
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    first = tokenizer("a")["input_ids"][0]
    if tokenizer.cls_token_id is None or first != tokenizer.cls_token_id:
        raise ModelError(
            f"{name}: inputs do not start with a [CLS] token (found id {first}, expected "
            f"{tokenizer.cls_token_id}); pkd distils encoders that classify from the first token."
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no padding token.")
    return tokenizer


def load_classifier(name: str) -> Any:
    """A fine-tuned sequence classifier in float32 and eval mode.

    Raises:
        ModelError: missing, unreadable, or a checkpoint without a classification head.
    """
    from transformers import AutoModelForSequenceClassification as Auto

    quiet_libraries()
    model, info = _loaded(
        "model", Auto.from_pretrained, name, dtype=torch.float32, output_loading_info=True
    )
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"{name}: not a fine-tuned classifier; weights missing: {missing}. "
            "Fine-tune it first: `pkd-teacher fit --task TASK --init MODEL`."
        )
    return model.eval()


def build_classifier(
    name: str, task: Task, *, layers: int | None, seed: int, dropout: float | None
) -> Any:
    """A classifier with the first `layers` blocks of a pretrained encoder and a new head.

    The encoder's embeddings, blocks 1..layers and, where it has one, pooler are kept (Sun et al.
    2019, section 4.2); the head is drawn from `seed`.

    Args:
        name: hub id or folder of a pretrained encoder, with or without a head of its own.
        task: gives the number of outputs and the label names.
        layers: blocks to keep; None = all.
        seed: of the new weights.
        dropout: probability for every dropout; None = the checkpoint's own.

    Returns:
        A `transformers` model for sequence classification, float32, in train mode.

    Raises:
        ModelError: not found, or fewer blocks than asked for.
    """
    config = classifier_config(name, task, dropout)
    _cut(config, name, layers)
    torch.manual_seed(seed)
    encoder = load_encoder(name, config)
    model = new_classifier(config)
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return model


def classifier_config(name: str, task: Task, dropout: float | None) -> Any:
    """A checkpoint's configuration with the task's labels and, unless None, another dropout."""
    config = load_config(name)
    _name_labels(config, task)
    if dropout is not None:
        _set_dropout(config, dropout)
    return config


def new_classifier(config: Any) -> Any:
    """A classifier of a configuration with random weights, float32, in train mode."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).train()


def load_encoder(name: str, config: Any) -> Any:
    """A pretrained encoder without a head, as deep as `config` says, float32.

    Raises:
        ModelError: it cannot be loaded, or lacks weights that the configuration asks for.
    """
    from transformers import AutoModel

    quiet_libraries()
    encoder, info = _loaded(
        "model",
        AutoModel.from_pretrained,
        name,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
    )
    _require_pretrained(name, info)
    return encoder


def require_length(max_length: int, config: Any, name: str) -> None:
    """Refuse inputs longer than the encoder has positions for; raises ModelError."""
    positions = positions_of(config)
    if positions and max_length > positions:
        raise ModelError(
            f"{name}: reads at most {positions} tokens, max_length is {max_length}; "
            "lower --max-length."
        )


def positions_of(config: Any) -> int | None:
    """Tokens that an encoder has positions for; None where there is no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return positions - first_position(config) if positions else None


def first_position(config: Any) -> int:
    """Position of an input's first token."""
    counts_from_padding = config.model_type in COUNTS_POSITIONS_FROM_PADDING
    return int(config.pad_token_id) + 1 if counts_from_padding else 0


def _require_pretrained(name: str, info: dict[str, Any]) -> None:
    """Weights that a checkpoint lacks would be random; only a pooler may be new."""
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(
            f"{name}: its weights lack {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}; they do not fit its config.json."
        )


def _cut(config: Any, name: str, layers: int | None) -> None:
    if layers is None:
        return
    if layers > config.num_hidden_layers:
        raise ModelError(
            f"{name}: has {config.num_hidden_layers} layers, fewer than the {layers} asked for; "
            "lower --student-layers or choose a deeper --init."
        )
    config.num_hidden_layers = layers


def _name_labels(config: Any, task: Task) -> None:
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    names = task.label_names or ("score",)
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {label: index for index, label in enumerate(names)}


def _set_dropout(config: Any, dropout: float) -> None:
    for key in DROPOUT_KEYS:
        if isinstance(getattr(config, key, None), int | float) or key == "classifier_dropout":
            setattr(config, key, dropout)


def _loaded(what: str, loader: Any, name: str, **options: Any) -> Any:
    """Call a `from_pretrained`; its many ways to fail become one ModelError."""
    path = Path(name).expanduser()
    if not is_hub_id(name) and not path.is_dir():
        raise ModelError(
            f"{name}: no such folder. Name a Hugging Face model folder or a hub id; a teacher is "
            "made by `pkd-teacher fit --task TASK --init MODEL`."
        )
    quiet_libraries()
    try:
        return loader(str(path) if path.is_dir() else name, **options)
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        where = "the hub (no network?)" if is_hub_id(name) else "that folder"
        raise ModelError(f"{name}: no {what} could be loaded from {where}: {reason}") from None


def cls_states(
    hidden_states: tuple[Tensor, ...], layers: tuple[int, ...], starts_B: Tensor | None = None
) -> Tensor:
    """[CLS] vectors of chosen layers.

    Args:
        hidden_states: of a model called with `output_hidden_states=True`; entry l is (B, S, H) and
            entry 0 the embeddings.
        layers: numbers in 1..N.
        starts_B: (B,) first tokens of packed rows, whose hidden states are (1, T, H); None for
            padded ones.

    Returns:
        (B, len(layers), H).
    """
    if not layers:
        return hidden_states[0][:, :0]
    return torch.stack([_first_tokens(hidden_states[layer], starts_B) for layer in layers], dim=1)


def _first_tokens(states: Tensor, starts_B: Tensor | None) -> Tensor:
    if starts_B is None or len(states) == len(starts_B):  # at [CLS] alone already
        return states[:, 0]
    return states[0, starts_B]


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


def read_teacher_record(teacher: str) -> dict[str, Any]:
    """What `pkd-teacher fit` wrote beside the weights; {} for any other model."""
    path = Path(teacher).expanduser() / TEACHER_RECORD
    return dict(read_json(path)) if path.is_file() else {}


def identify_tokenizer(tokenizer: Any, name: str) -> dict[str, Any]:
    """What a cache or run records of its tokenizer."""
    return {
        "name": Path(name).expanduser().resolve().name if not is_hub_id(name) else name,
        "digest": digest_tokenizer(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
    }


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Parameters in all, and of the input embeddings alone."""
    total = sum(parameter.numel() for parameter in model.parameters())
    embeddings: Any = model
    tokens = sum(p.numel() for p in embeddings.get_input_embeddings().parameters())
    return {"total": total, "token_embeddings": tokens}
