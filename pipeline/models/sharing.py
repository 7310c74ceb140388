"""Shuffled parameter sharing, SPS of Pea-KD (Cho and Kang 2020, section 3.2): blocks run twice.

A student of M blocks is run as one of 2M: pass M + i uses all parameters of block i again. In `sps`
the second pass takes the query projection for its keys and the key projection for its queries, so
that from the same input its attention scores are the transpose of the first pass's; `sps1` leaves
them as they are. A student of six blocks or more runs only its top three twice.

The passes are blocks of the plain `transformers` model that hold the same modules, so its code runs
unchanged and an optimizer sees each parameter once; what is saved is a plain model with copies.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import ModelError
from pipeline.params import StudentParams

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra")
"""Those whose blocks are `encoder.layer[i].attention.self.{query,key,value}` and nothing more."""
DEEP, TOP = 6, 3  # from so many blocks on, only so many of them run twice


def passes(layers: int, share: str) -> tuple[int, ...]:
    """The block, from 1, of each pass: 1, 2, 3, 1, 2, 3 for three shared layers.

    Args:
        layers: M >= 1, blocks of the student.
        share: "none", "sps" or "sps1".
    """
    blocks = tuple(range(1, layers + 1))
    if share == "none":
        return blocks
    return blocks + blocks[-TOP if layers >= DEEP else 0 :]


def match_every(params: StudentParams) -> int:
    """How many passes a layer map counts as one layer.

    The authors match pass 3 and 6 of the nine of a 6-layer student, with the layers of a 3-layer
    student (teacher layers 4 and 8 of 12), and otherwise every pass but the last.
    """
    return TOP if params.share != "none" and params.student_layers == DEEP else 1


def counted_as(params: StudentParams, every: int) -> str:
    """What the depth of a student is counted in, for errors about it: layers, or passes.

    Args:
        params: of the run.
        every: as of `match_every`; 1 where all passes count.
    """
    if params.share == "none":
        return "layers"
    which = "" if every == 1 else f"one in {every}; "
    return f"passes ({which}{params.student_layers} layers with --share {params.share})"


def require_shareable(config: Any, name: str) -> None:
    """Refuse a family whose blocks are built in another way; raises ModelError."""
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{name}: --share needs blocks like BERT's, which `{config.model_type}` does not have; "
            f"start from one of {', '.join(FAMILIES)}, or leave --share out."
        )


def share_layers(model: Any, share: str) -> Any:
    """Let a student run its blocks twice, in place.

    Args:
        model: a `transformers` classifier of M blocks of one of `FAMILIES`.
        share: "none", "sps" or "sps1".

    Returns:
        The model, with 2M blocks (or M + 3) that have no more parameters than the M.

    Raises:
        ModelError: another family.
    """
    if share == "none":
        return model
    config = model.config
    require_shareable(config, config.name_or_path)
    order = passes(config.num_hidden_layers, share)
    blocks = model.base_model.encoder.layer
    for place in range(len(blocks), len(order)):
        blocks.append(_second_pass(blocks[order[place] - 1], config, place, swap=share == "sps"))
    config.num_hidden_layers = len(order)
    return model


def _second_pass(block: Any, config: Any, place: int, *, swap: bool) -> Any:
    """A block of its own that holds the modules of `block`."""
    import torch

    with torch.device("meta"):  # weights that are replaced at once
        again = type(block)(config, layer_idx=place)
    one, other = block.attention.self, again.attention.self
    other.query, other.key = (one.key, one.query) if swap else (one.query, one.key)
    other.value = one.value
    again.attention.output = block.attention.output
    again.intermediate, again.output = block.intermediate, block.output
    assert set(again.parameters()) == set(block.parameters())
    return again.train(block.training)


def expanded_parameters(model: Any) -> int:
    """Parameters of the model as it is saved: shared ones count as often as they are used."""
    return sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))


def unshared(model: Any) -> Any:
    """The same model with copies in place of shared parameters; itself where none is shared."""
    if expanded_parameters(model) == sum(p.numel() for p in model.parameters()):
        return model
    plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict())
    return plain
