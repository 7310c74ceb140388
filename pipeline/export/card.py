"""The README of an exported folder."""

from __future__ import annotations

from typing import Any

USE = """\
import numpy, onnxruntime, tokenizers

folder = "{folder}"
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")  # cuts and pads
session = onnxruntime.InferenceSession(folder + "/{file}")

rows = tokenizer.encode_batch({texts})  # or single texts
made = {{"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}}
names = [each.name for each in session.get_inputs()]
feed = {{name: numpy.array([getattr(row, made[name]) for row in rows]) for name in names}}
logits = session.run(["logits"], feed)[0]  # (rows, {outputs})
"""
MADE_UP = "made-up"
FLOAT_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
PAIR = '[("A man sleeps.", "Somebody sleeps.")]'


def export_card(record: dict[str, Any]) -> str:
    """Markdown: what the folder is, what was checked, and how to use it."""
    student, check = record["student"], record["check"]
    return "\n".join(
        [
            f"# {record['name']}",
            "",
            f"`{student['name']}` as ONNX, made by pkd.",
            f"Type {student['model_type']}, {student['sizes']['passes']} layers;",
            f"outputs, in order: {', '.join(student['labels'])}.",
            f"Inputs of at most {record['max_length']} tokens.",
            "",
            f"Its logits are within {check['largest_error']:.2g} of PyTorch's (allowed:",
            f"{check['tolerance']:.2g}) on {rows_text(record)}. `export.json` has the details.",
            "",
            "```python",
            use(".", FLOAT_FILE, len(student["labels"])).rstrip(),
            "```",
            "",
        ]
    )


def rows_text(record: dict[str, Any]) -> str:
    """Which rows an export was checked on: `408 rows of validation`."""
    return " and ".join(
        f"{count:,} {name} rows" if name == MADE_UP else f"{count:,} rows of {name}"
        for name, count in record["check"]["rows"].items()
    )


def use(folder: str, file: str, outputs: int, texts: str = PAIR) -> str:
    """Python that runs an export with onnxruntime, tokenizers and numpy alone."""
    return USE.format(folder=folder, file=file, outputs=outputs, texts=texts)
