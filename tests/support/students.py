"""Students with random weights, as folders, without training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.support.tiny import WORDS, tiny_config, tiny_tokenizer


def save_student(folder: Path, labels: tuple[str, ...] = ("no", "yes"), **record: Any) -> Path:
    """A tiny classifier (a regression without labels) and its run.json; no record without values.

    Its logits have mean 0 and spread 1 over made-up texts, so that rows differ in their labels.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    config = tiny_config("bert", 2)
    config.num_labels = len(labels) or 1
    config.id2label = dict(enumerate(labels or ("score",)))
    config.label2id = {name: place for place, name in config.id2label.items()}
    config.problem_type = "single_label_classification" if labels else "regression"
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_config(config)
    tokenizer = tiny_tokenizer("bert")
    _spread(model.eval(), tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if record:
        (folder / "run.json").write_text(json.dumps(record))
    return folder


def _spread(model: Any, tokenizer: Any) -> None:
    import torch

    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=8)) for _ in range(50)]
    with torch.no_grad():
        logits_NK = model(**tokenizer(texts, return_tensors="pt")).logits
        scale_K = 1 / logits_NK.std(0)
        model.classifier.weight *= scale_K.unsqueeze(1)
        model.classifier.bias -= logits_NK.mean(0) * scale_K  # it was 0
