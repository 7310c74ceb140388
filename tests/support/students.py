"""Students with random weights, as folders, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.tiny import tiny_config, tiny_tokenizer


def save_student(
    folder: Path, labels: tuple[str, ...] = ("no", "yes"), **record: Any
) -> Path:
    """A tiny classifier (a regression without labels) and its run.json; no record without values.

    Its head is wide, so that rows differ in their labels.
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
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    tiny_tokenizer("bert").save_pretrained(folder)
    if record:
        (folder / "run.json").write_text(json.dumps(record))
    return folder
