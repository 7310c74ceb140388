"""Shapes of the models that are measured; their weights are random, which changes no speed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a BERT."""

    name: str
    layers: int
    hidden: int
    heads: int
    vocabulary: int = 30522

    def cut(self, layers: int) -> Shape:
        """The same with fewer layers."""
        return replace(self, layers=layers)

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.name} shape, {self.layers} layers of {self.hidden}"

    def classifier(self, device: torch.device, dropout: float = 0.1) -> Any:
        """A classifier of two classes, float32."""
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        config = BertConfig(
            num_hidden_layers=self.layers, hidden_size=self.hidden, vocab_size=self.vocabulary,
            intermediate_size=4 * self.hidden, num_attention_heads=self.heads,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        return BertForSequenceClassification(config).to(device)


BASE = Shape(name="bert-base", layers=12, hidden=768, heads=12)
LARGE = Shape(name="bert-large", layers=24, hidden=1024, heads=16)
TINY = Shape(name="tiny", layers=12, hidden=16, heads=2, vocabulary=100)
TINY_LARGE = Shape(name="tiny large", layers=24, hidden=32, heads=2, vocabulary=100)
