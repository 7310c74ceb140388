"""Distil a cached teacher with a plain `transformers.Trainer`.

    python examples/patient_trainer.py data/rte.zarr bert-base-uncased

Nothing of pkd trains here. The cache gives the teacher's outputs, `align` finds the row of them
that belongs to an example, and the loss adds them to the labels. The texts may come from anywhere,
as long as they are those that the teacher read: here, from the files of `pkd-data prepare`.

Shapes: B rows of a batch, L matched layers, H hidden size.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from pipeline import TeacherCache
from pipeline.layers import layer_map
from pipeline.losses import distillation_loss, patience_loss

STUDENT_LAYERS = 3


class PatientTrainer(Trainer):  # type: ignore[misc]
    """Learns the labels, the teacher's logits, and its [CLS] of layers matched with 1..L."""

    def __init__(self, *args: Any, teacher: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.teacher = teacher
        self.model_accepts_loss_kwargs = False  # the loss is a mean over each batch

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **more: Any
    ) -> Any:
        """0.5 * CE + 0.5 * KD + 100 * PT; for rows without a teacher, CE alone."""
        if "teacher_row" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, **more)
        rows_B, layers = inputs.pop("teacher_row"), len(self.teacher.layers)
        output = model(**inputs, output_hidden_states=True)
        cls_BLH = torch.stack([each[:, 0] for each in output.hidden_states[1 : layers + 1]], 1)
        kd = distillation_loss(output.logits, self.teacher.logits[rows_B], temperature=10)
        pt = patience_loss(cls_BLH, self.teacher.cls[rows_B])
        loss = 0.5 * output.loss + 0.5 * kd + 100 * pt
        return (loss, output) if return_outputs else loss


def main(asked: argparse.Namespace) -> None:
    """Train a student of three layers and print how it does on the validation split."""
    set_seed(0)
    cache = TeacherCache.open(asked.cache)
    task, validation = cache.manifest.task, cache.manifest.task["validation_splits"][0]
    tokenizer = AutoTokenizer.from_pretrained(asked.encoder)

    def tokenise(batch: dict[str, list[str]]) -> Any:
        texts = [batch[column] for column in task["text_columns"]]
        return tokenizer(*texts, truncation=True, max_length=cache.manifest.max_length)

    files = {split: f"data/raw/{task['name']}/{split}.parquet" for split in ("train", validation)}
    data = load_dataset("parquet", data_files=files)
    data = data.map(tokenise, batched=True, remove_columns=["example_id", *task["text_columns"]])
    train = cache["train"].align(data["train"])  # the same rows with a column teacher_row

    layers = layer_map("skip", cache.manifest.teacher["layers"], STUDENT_LAYERS)
    arguments = TrainingArguments(
        asked.out,
        num_train_epochs=asked.epochs,
        learning_rate=asked.learning_rate,
        per_device_train_batch_size=32,
        remove_unused_columns=False,  # or the Trainer would drop teacher_row
        save_strategy="no",
    )
    trainer = PatientTrainer(
        Classifier.from_pretrained(
            asked.encoder, num_hidden_layers=STUDENT_LAYERS, num_labels=cache.manifest.outputs
        ),
        arguments,
        DataCollatorWithPadding(tokenizer),
        train_dataset=train,
        teacher=cache["train"].tensors(layers, arguments.device),
    )
    trainer.train()
    trainer.save_model()
    found = trainer.predict(data[validation])
    rows = cache[validation].matching_rows(data[validation])
    teacher = cache[validation].tensors().logits[rows].argmax(-1).numpy()
    student = found.predictions.argmax(-1)
    print(  # noqa: T201
        f"{validation}: accuracy {(student == found.label_ids).mean():.4f}, "
        f"the teacher's {(teacher == found.label_ids).mean():.4f}, "
        f"same answer {(student == teacher).mean():.4f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", help="a folder or a URL")
    parser.add_argument("encoder", help="what the student starts from: a folder or a hub id")
    parser.add_argument("--out", default="data/students/trainer", help="[default: %(default)s]")
    parser.add_argument("--epochs", type=float, default=4, help="[default: %(default)s]")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="[default: %(default)s]")
    main(parser.parse_args())
