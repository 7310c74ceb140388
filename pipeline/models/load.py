"""Encoders and tokenizers from Hugging Face: loading, and cutting to depth."""

from __future__ import annotations

from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from pipeline.errors import ModelError
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
