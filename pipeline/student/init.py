"""What a student starts from: layers of a pretrained encoder, of the teacher itself, or nothing.

Which of them, `--init-layers` says; which encoder, `--init`. `share_layers` comes last.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ModelError, ParamsError
from pipeline.layers import layer_map
from pipeline.models.identity import identify_model
from pipeline.models.load import (
    build_classifier,
    classifier_config,
    load_classifier,
    load_config,
    load_encoder,
    new_classifier,
)
from pipeline.models.sharing import passes, require_shareable, share_layers
from pipeline.params import StudentParams
from pipeline.store.manifest import Manifest
from pipeline.tasks import Task

LAYER = re.compile(r"(?<![A-Za-z_])(layers?)\.(\d+)\.")  # encoder.layer.3.output -> 3


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a student starts: settled before any weight is loaded."""

    init: str
    """Hub id or folder; of `random` only its configuration and tokenizer count."""
    kind: str
    """first, alternate, teacher or random."""
    layers: tuple[int, ...]
    """The layer of `init` that each block starts from; () = none."""
    blocks: int
    """M."""
    hidden_size: int
    share: str
    teacher_digest: str

    @property
    def passes(self) -> int:
        """Blocks that an input goes through; the student's effective layers."""
        return len(passes(self.blocks, self.share))


def settle_start(init: str, manifest: Manifest, params: StudentParams) -> Start:
    """Check that a student can start like that.

    Raises:
        ParamsError: options that contradict each other.
        ModelError: no such encoder, too few layers, or a family that cannot share its layers.
    """
    config, kind = load_config(init), params.init_layers
    hidden_size = params.hidden_size or config.hidden_size
    if kind != "random" and hidden_size != config.hidden_size:
        raise ParamsError(
            f"--hidden-size {hidden_size}: the weights of {init} are of hidden size "
            f"{config.hidden_size} and cannot be cut to another; add --init-layers random."
        )
    if kind == "teacher":
        _require_own_order(manifest)
    if params.share != "none":
        require_shareable(config, init)
    if kind != "random" and params.student_layers > config.num_hidden_layers:
        raise ModelError(
            f"{init}: has {config.num_hidden_layers} layers, fewer than the "
            f"{params.student_layers} asked for; lower --student-layers or choose a deeper --init."
        )
    return Start(
        init=init,
        kind=kind,
        layers=start_layers(kind, config.num_hidden_layers, params.student_layers),
        blocks=params.student_layers,
        hidden_size=hidden_size,
        share=params.share,
        teacher_digest=manifest.teacher["digest"],
    )


def _require_own_order(manifest: Manifest) -> None:
    order = list(manifest.teacher.get("output_order") or ())
    if order != sorted(order):
        raise ParamsError(
            f"--init-layers teacher: the outputs of {manifest.teacher['name']} are in another "
            "order than the task's labels, so its head cannot be taken over; --init-layers first "
            "takes its layers alone."
        )


def start_layers(kind: str, encoder_layers: int, student_layers: int) -> tuple[int, ...]:
    """The encoder's layer that each of the student's blocks starts from, numbered from 1.

    Args:
        kind: "first" and "teacher" = 1..M; "alternate" = every (N/M)-th, the last one included,
            which are the layers that skip matches; "random" = none, ().
        encoder_layers: N.
        student_layers: M <= N, or any of "random".
    """
    if kind == "random":
        return ()
    if kind == "alternate":
        return layer_map("skip", encoder_layers, student_layers, match_top=encoder_layers)
    return tuple(range(1, student_layers + 1))


def build_student(
    start: Start, task: Task, *, seed: int, dropout: float | None, new_head: bool = False
) -> Any:
    """A student before training.

    * first, alternate: embeddings, blocks and, where there is one, pooler of the encoder; the head
      is drawn from `seed`.
    * teacher: all that of the fine-tuned teacher, and its head.
    * random: a configuration alone; all weights are drawn from `seed`.

    Args:
        start: from `settle_start`.
        task: gives the number of outputs and the label names.
        seed: of the new weights.
        dropout: probability for every dropout; None = the checkpoint's own.
        new_head: draw the head also where the teacher's would be taken over.

    Returns:
        A `transformers` model for sequence classification, float32, in train mode; with
        `start.share`, its second passes hold the modules of the first (see
        `pipeline.models.sharing`).

    Raises:
        ModelError: not loadable, or not the teacher that the cache is of.
    """
    match start.kind:
        case "first":
            model = build_classifier(
                start.init, task, layers=start.blocks, seed=seed, dropout=dropout
            )
        case "random":
            model = _random(start, task, seed, dropout)
        case "teacher":
            teacher = _load_teacher(start)
            weights = (teacher.base_model if new_head else teacher).state_dict()
            model = _of_layers(start, task, seed, dropout, weights, whole=not new_head)
        case _:
            encoder = load_encoder(start.init, load_config(start.init))
            model = _of_layers(start, task, seed, dropout, encoder.state_dict(), whole=False)
    return share_layers(model, start.share)


def _of_layers(
    start: Start,
    task: Task,
    seed: int,
    dropout: float | None,
    weights: Mapping[str, Tensor],
    *,
    whole: bool,
) -> Any:
    """A classifier with chosen layers of `weights`, which are of a `whole` one or of an encoder."""
    config = classifier_config(start.init, task, dropout)
    config.num_hidden_layers = start.blocks
    torch.manual_seed(seed)
    model = new_classifier(config)
    target = model if whole else model.base_model
    missing = target.load_state_dict(renumbered(weights, start.layers), strict=False).missing_keys
    if lost := [key for key in missing if "pooler" not in key]:
        raise ModelError(
            f"{start.init}: its layers cannot be chosen one by one ({lost[0]} is not among its "
            "weights); use --init-layers first."
        )
    return model


def renumbered(weights: Mapping[str, Tensor], layers: tuple[int, ...]) -> dict[str, Tensor]:
    """Weights by name, with layer `layers[0]` as the first block, and so on; others are left out.

    Args:
        weights: of an encoder or classifier, whose names count layers from 0.
        layers: numbered from 1.
    """
    place_of = {layer - 1: place for place, layer in enumerate(layers)}
    result = {}
    for name, weight in weights.items():
        found = LAYER.search(name)
        if found is None:
            result[name] = weight
        elif (place := place_of.get(int(found[2]))) is not None:
            result[LAYER.sub(f"{found[1]}.{place}.", name, count=1)] = weight
    return result


def _load_teacher(start: Start) -> Any:
    """The teacher itself, checked against the cache by its digest."""
    teacher = load_classifier(start.init)
    if identify_model(teacher) != start.teacher_digest:
        raise ModelError(
            f"{start.init}: is not the teacher that the cache was built with; --init-layers "
            "teacher needs that one, --init-layers first takes any encoder."
        )
    return teacher


def _random(start: Start, task: Task, seed: int, dropout: float | None) -> Any:
    config = classifier_config(start.init, task, dropout)
    config.num_hidden_layers = start.blocks
    if start.hidden_size != config.hidden_size:
        config = resized(config, start.hidden_size)
    torch.manual_seed(seed)
    return new_classifier(config)


def resized(config: Any, hidden_size: int) -> Any:
    """A configuration of another width, with heads and inner layers in proportion.

    Heads keep their size (64 in BERT) where that divides the width; else their number is the
    largest divisor of the width that makes them no narrower.
    """
    result = copy.deepcopy(config)
    head_size = config.hidden_size // config.num_attention_heads
    most = max(1, hidden_size // head_size)
    heads = max(count for count in range(1, most + 1) if hidden_size % count == 0)
    for key in ("intermediate_size", "hidden_dim"):  # the second is DistilBERT's
        if (inner := getattr(config, key, None)) is not None:
            setattr(result, key, max(1, inner * hidden_size // config.hidden_size))
    if hasattr(config, "pooler_hidden_size"):
        result.pooler_hidden_size = hidden_size
    result.hidden_size, result.num_attention_heads = hidden_size, heads
    return result
