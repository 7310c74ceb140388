"""Pretrain the demo's small base BERT on the demo grammar, as BERT was: two objectives.

Masked language modelling on stories with their conclusions; and, on the shortest stories only, the
sentence pair objective: is this the story's conclusion? It trains [CLS] and the pooler.

The model is grown while it learns (Gong et al., Efficient Training of BERT by Progressively
Stacking, 2019): first a third of its layers, then two thirds, then all. A new layer starts as the
identity, so that it disturbs nothing, and the early steps are cheap.

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

from pipeline.demo.grammar import MAX_TOKENS, SWAPS, Passage, demo_corpus, demo_vocabulary

OnStep = Callable[[int, int, float], None]
History = list[tuple[float, float]]  # loss and masked accuracy of each step

IGNORED = -100  # the label that cross-entropy leaves out
TAIL_STEPS = 50  # the record's loss and accuracy are means over this many last steps


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
    """Optimizer steps: a fifth with a third of the layers, three fifths with two thirds."""
    batch_size: int = 32
    """Passages in a step."""
    learning_rate: float = 1e-3
    """Highest learning rate, after the warm-up."""
    warmup_steps: int = 60
    """Steps of linear warm-up, at the start and after each growth."""
    pair_swaps: int = 1
    """Stories of at most this many swaps also train the sentence pair objective."""


class Stage(NamedTuple):
    """One part of the training: with how many layers, for how many steps."""

    layers: int
    steps: int


class Row(NamedTuple):
    """One passage, partly hidden."""

    words: list[str]
    """Words as shown, special ones included."""
    asked: list[str | None]
    """The true word where it is to be predicted, else None."""
    place: int
    """Place of the conclusion's first word, the wearer."""
    pair: int
    """0 if the conclusion shown belongs to the story, 1 if not, IGNORED if not asked."""


class Batch(NamedTuple):
    """Rows as ids; labels_BT and pairs_B hold IGNORED where nothing is asked."""

    inputs_BT: Tensor
    types_BT: Tensor
    mask_BT: Tensor
    labels_BT: Tensor
    pairs_B: Tensor


def pretrain_base(
    out: Path, *, settings: PretrainSettings | None = None, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train the base model and write it as a Hugging Face folder.

    Args:
        out: folder to write; made if missing.
        settings: see `PretrainSettings`.
        on_step: called with (steps done, steps in all, loss) after each step.

    Returns:
        A record: settings, parameter count, and the loss (nats per hidden word) and accuracy of
        masked language modelling over the last steps.
    """
    settings = settings or PretrainSettings()
    torch.manual_seed(settings.seed)
    model = BertForPreTraining(_config(settings))
    _start_as_identity(model.bert.encoder.layer[growth(settings)[0].layers :])
    history = _train(model, settings, on_step)
    model.config.hidden_dropout_prob = settings.dropout
    model.config.attention_probs_dropout_prob = settings.dropout
    model.save_pretrained(out)
    demo_tokenizer().save_pretrained(out)
    losses, accuracies = zip(*history[-TAIL_STEPS:], strict=True)
    return {
        "loss": sum(losses) / len(losses),
        "masked_accuracy": sum(accuracies) / len(accuracies),
        "parameters": model.num_parameters(),
        "settings": asdict(settings),
    }


def demo_tokenizer() -> BertTokenizerFast:
    """Return a tokenizer of the demo's whole words."""
    vocabulary = {word: number for number, word in enumerate(demo_vocabulary())}
    return BertTokenizerFast(vocab=vocabulary, model_max_length=MAX_TOKENS)


def growth(settings: PretrainSettings) -> list[Stage]:
    """Return the stages: a third, two thirds and all of the layers; the middle one is longest."""
    layers = [max(1, settings.layers * part // 3) for part in (1, 2, 3)]
    steps = [settings.steps // 5, 3 * settings.steps // 5]
    steps.append(settings.steps - sum(steps))
    return [Stage(*stage) for stage in zip(layers, steps, strict=True)]


def hide(rng: random.Random, passage: Passage, *, pair_swaps: int) -> Row:
    """Hide the wearer of the conclusion, and one word in fifty of the story.

    As in BERT a hidden word may show as [MASK], as another word or as itself, so that the model
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
    return Row(words, asked, place, pair if story.count("swap") <= pair_swaps else IGNORED)


def tensors(rows: Sequence[Row]) -> Batch:
    """Return the rows as ids, padded to the longest."""
    ids = {word: number for number, word in enumerate(demo_vocabulary())}
    width = max(len(row.words) for row in rows)
    inputs, types, labels = [], [], []
    for row in rows:
        padding = width - len(row.words)
        inputs.append([ids[word] for word in row.words] + [0] * padding)
        types.append([0] * row.place + [1] * (len(row.words) - row.place) + [0] * padding)
        labels.append([IGNORED if w is None else ids[w] for w in row.asked] + [IGNORED] * padding)
    inputs_BT, pairs_B = torch.tensor(inputs), torch.tensor([row.pair for row in rows])
    mask_BT = (inputs_BT != 0).long()
    return Batch(inputs_BT, torch.tensor(types), mask_BT, torch.tensor(labels), pairs_B)


def _config(settings: PretrainSettings) -> BertConfig:
    return BertConfig(
        vocab_size=len(demo_vocabulary()),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.hidden_size,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=settings.initializer_range,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )


@torch.no_grad()
def _start_as_identity(layers: torch.nn.ModuleList) -> None:
    for layer in layers:
        for name in ("attention.output.dense.weight", "output.dense.weight"):
            layer.get_parameter(name).zero_()


def _train(
    model: BertForPreTraining, settings: PretrainSettings, on_step: OnStep | None
) -> History:
    every_layer = model.bert.encoder.layer
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    history: History = []
    model.train()
    for stage in growth(settings):
        model.bert.encoder.layer = every_layer[: stage.layers]
        read = len(history) * settings.batch_size
        for number, batch in enumerate(_batches(settings, stage, read)):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(settings, len(history), number)
            history.append(_step(model, optimizer, batch))
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
    model: BertForPreTraining, optimizer: torch.optim.Optimizer, batch: Batch
) -> tuple[float, float]:
    """Take one step; return loss and accuracy of the hidden words."""
    output = model(batch.inputs_BT, batch.mask_BT, batch.types_BT)
    asked = batch.labels_BT != IGNORED
    logits, labels = output.prediction_logits[asked], batch.labels_BT[asked]
    loss = F.cross_entropy(logits, labels)
    judged = (batch.pairs_B != IGNORED).sum().clamp(min=1)  # a batch may ask for none
    pair_losses = F.cross_entropy(output.seq_relationship_logits, batch.pairs_B, reduction="sum")
    optimizer.zero_grad()
    (loss + pair_losses / judged).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item(), (logits.argmax(-1) == labels).float().mean().item()


def _batches(settings: PretrainSettings, stage: Stage, skip: int) -> Iterator[Batch]:
    """Yield the stage's batches, after the skipped passages, which earlier stages have read."""
    count, size = stage.steps * settings.batch_size, settings.batch_size
    corpus = demo_corpus(seed=settings.seed, passages=skip + count, swaps=sorted(SWAPS))[skip:]
    rng = random.Random(f"masks {settings.seed} {skip}")
    for start in range(0, count, size):
        chunk = corpus[start : start + size]
        yield tensors([hide(rng, passage, pair_swaps=settings.pair_swaps) for passage in chunk])
