"""Pretrain the demo's small base BERT: masked language modelling on the demo grammar.

The model is grown while it learns (Gong et al., Efficient Training of BERT by Progressively
Stacking, 2019): a third of the layers read short stories, then two thirds, then all of them longer
ones. A new layer starts as the identity, so that it disturbs nothing, and early steps are cheap.

Shapes: B passages in a batch, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertForPreTraining, BertTokenizerFast

from pipeline.demo import MAX_TOKENS, SWAPS, Passage, demo_corpus, demo_vocabulary

OnStep = Callable[[int, int, float], None]

IGNORED = -100
"""The label that cross-entropy leaves out."""

TAIL_STEPS = 50
"""The loss and accuracy of the record are means over this many last steps."""


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """How the base model is built and trained."""

    seed: int = 0
    """Seed of the passages, the masks and the first weights."""
    layers: int = 6
    """Transformer layers of the finished model, at least 1."""
    hidden_size: int = 64
    """Width of the hidden states; a multiple of the number of heads."""
    heads: int = 4
    """Attention heads of a layer."""
    dropout: float = 0.0
    """Dropout in the written configuration, for fine-tuning; pretraining uses none."""
    initializer_range: float = 0.17
    """Standard deviation of the first weights: narrow layers need more than BERT's 0.02."""
    steps: int = 1500
    """Optimizer steps, a fifth of them with a third of the layers, two fifths with two thirds."""
    batch_size: int = 32
    """Passages in a step."""
    learning_rate: float = 1e-3
    """Highest learning rate, after the warm-up."""
    warmup_steps: int = 60
    """Steps of linear warm-up, at the start and after each growth."""
    pair_swaps: int = 1
    """Stories of at most this many swaps also train the sentence-pair objective."""


class Stage(NamedTuple):
    """One part of the training: how many layers, for how many steps, on how many swaps."""

    layers: int
    steps: int
    swaps: tuple[int, ...]


class Batch(NamedTuple):
    """Corrupted passages with the words that were there."""

    inputs_BT: Tensor
    types_BT: Tensor
    mask_BT: Tensor
    labels_BT: Tensor
    """The true word where it is to be predicted, else IGNORED."""
    pairs_B: Tensor
    """0 where the conclusion shown belongs to the story, 1 where it does not, IGNORED if hidden."""


def growth(settings: PretrainSettings) -> list[Stage]:
    """Return the stages: a third, two thirds and all of the layers, with ever longer stories."""
    thirds = [max(1, settings.layers * part // 3) for part in (1, 2, 3)]
    steps = [settings.steps // 5, 2 * settings.steps // 5]
    steps.append(settings.steps - sum(steps))
    longest = [min(2, max(SWAPS)), max(SWAPS), max(SWAPS)]
    swaps = [tuple(range(1, top + 1)) for top in longest]
    return [Stage(*stage) for stage in zip(thirds, steps, swaps, strict=True)]


def demo_tokenizer() -> BertTokenizerFast:
    """Return a tokenizer of the demo's whole words."""
    vocabulary = {word: number for number, word in enumerate(demo_vocabulary())}
    return BertTokenizerFast(vocab=vocabulary, model_max_length=MAX_TOKENS)


def pretrain_base(
    out: Path, *, settings: PretrainSettings | None = None, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train the base model and write it as a Hugging Face folder.

    Args:
        out: folder to write; made if missing.
        settings: see `PretrainSettings`.
        on_step: called with (steps done, steps in all, loss) after each step.

    Returns:
        A record: settings, parameter count, and loss and masked accuracy over the last steps.
    """
    settings = settings or PretrainSettings()
    torch.manual_seed(settings.seed)
    model = BertForPreTraining(_config(settings, dropout=0.0))
    _start_upper_layers_as_identity(model, above=growth(settings)[0].layers)
    history = _train(model, settings, on_step)
    model.config.update(_dropout(settings.dropout))
    model.save_pretrained(out)
    demo_tokenizer().save_pretrained(out)
    return _record(model, settings, history)


def _record(
    model: BertForPreTraining, settings: PretrainSettings, history: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    losses, accuracies = zip(*history[-TAIL_STEPS:], strict=True)
    return {
        "loss": sum(losses) / len(losses),
        "masked_accuracy": sum(accuracies) / len(accuracies),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "settings": asdict(settings),
    }


def _config(settings: PretrainSettings, *, dropout: float) -> BertConfig:
    return BertConfig(
        vocab_size=len(demo_vocabulary()),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.hidden_size,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=settings.initializer_range,
        pad_token_id=0,
        **_dropout(dropout),
    )


def _dropout(rate: float) -> dict[str, Any]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


@torch.no_grad()
def _start_upper_layers_as_identity(model: BertForPreTraining, *, above: int) -> None:
    for layer in model.bert.encoder.layer[above:]:
        layer.attention.output.dense.weight.zero_()
        layer.output.dense.weight.zero_()


def _train(
    model: BertForPreTraining, settings: PretrainSettings, on_step: OnStep | None
) -> list[tuple[float, float]]:
    """Train in place through all stages; return (loss, masked accuracy) of every step."""
    every_layer = model.bert.encoder.layer
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    history: list[tuple[float, float]] = []
    model.train()
    for stage in growth(settings):
        model.bert.encoder.layer = every_layer[: stage.layers]
        for number, batch in enumerate(_batches(settings, stage)):
            rate = _rate(settings, len(history), number)
            history.append(_step(model, optimizer, batch, settings.learning_rate * rate))
            if on_step:
                on_step(len(history), settings.steps, history[-1][0])
    model.bert.encoder.layer = every_layer
    return history


def _rate(settings: PretrainSettings, done: int, done_in_stage: int) -> float:
    """Return the share of the learning rate: warm-up in each stage, decay over the last third."""
    warm = (done_in_stage + 1) / max(1, settings.warmup_steps)
    left = (settings.steps - done) / (settings.steps / 3)
    return min(1.0, warm, left)


def _step(
    model: BertForPreTraining, optimizer: torch.optim.Optimizer, batch: Batch, rate: float
) -> tuple[float, float]:
    output = model(
        input_ids=batch.inputs_BT,
        token_type_ids=batch.types_BT,
        attention_mask=batch.mask_BT,
    )
    words = F.cross_entropy(output.prediction_logits.flatten(0, 1), batch.labels_BT.flatten())
    judged = batch.pairs_B != IGNORED
    pairs = F.cross_entropy(
        output.seq_relationship_logits, batch.pairs_B, reduction="sum"
    ) / max(1, int(judged.sum()))
    loss = words + pairs
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    asked = batch.labels_BT != IGNORED
    right = output.prediction_logits.argmax(-1)[asked] == batch.labels_BT[asked]
    return words.item(), right.float().mean().item()


def _batches(settings: PretrainSettings, stage: Stage) -> Iterator[Batch]:
    count = stage.steps * settings.batch_size
    passages = demo_corpus(seed=settings.seed, passages=count, swaps=stage.swaps)
    rng = random.Random(f"masks {settings.seed} {stage}")  # noqa: S311 - not for secrets
    ids = {word: number for number, word in enumerate(demo_vocabulary())}
    for start in range(0, count, settings.batch_size):
        rows = [_corrupt(rng, passage, settings.pair_swaps) for passage in passages[start : start + settings.batch_size]]
        yield _tensors(rows, ids)


Row = tuple[list[str], list[str | None], int, int]
"""Words as shown, true words where asked (None elsewhere), place of the conclusion, its truth."""


def _corrupt(rng: random.Random, passage: Passage, pair_swaps: int) -> Row:
    """Hide the wearer of the conclusion, and one word in fifty of the story.

    As in BERT the hidden word may show as [MASK], as another word or as itself, so that the model
    learns to doubt what it reads; the other word is a rival, the mistake that matters.
    """
    story, conclusion = passage.story.split(), passage.conclusion.split()
    words = ["[CLS]", *story, "[SEP]", *conclusion, "[SEP]"]
    place = len(story) + 2
    asked: list[str | None] = [None] * len(words)
    for spot in [place, *(i for i in range(1, place - 1) if rng.random() < 0.02)]:
        asked[spot], words[spot] = words[spot], "[MASK]"
    pair = rng.choice((IGNORED, 0, 1))
    if pair != IGNORED:
        words[place] = rng.choice(passage.rivals) if pair else conclusion[0]
    if passage.story.count("swap") > pair_swaps:
        pair = IGNORED
    return words, asked, place, pair


def _tensors(rows: Sequence[Row], ids: dict[str, int]) -> Batch:
    width = max(len(words) for words, *_ in rows)
    inputs, types, labels = [], [], []
    for words, asked, place, _ in rows:
        padding = width - len(words)
        inputs.append([ids[word] for word in words] + [0] * padding)
        types.append([0] * place + [1] * (len(words) - place) + [0] * padding)
        labels.append([IGNORED if w is None else ids[w] for w in asked] + [IGNORED] * padding)
    inputs_BT = torch.tensor(inputs)
    pairs_B = torch.tensor([row[-1] for row in rows])
    mask_BT = (inputs_BT != 0).long()
    return Batch(inputs_BT, torch.tensor(types), mask_BT, torch.tensor(labels), pairs_B)
