"""Exports for tests: made once, because torch takes seconds for each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.export.student import export_student
from pipeline.models.load import build_classifier
from pipeline.models.sharing import share_layers, unshared
from pipeline.tasks import BUILT_IN
from tests.support.tiny import World, save_encoder, tiny_tokenizer

RTE = BUILT_IN["rte"]


@dataclass(frozen=True)
class Exported:
    """A student, its export and the record of that."""

    student: Path
    folder: Path
    record: dict[str, Any]


def save_student(folder: Path, family: str = "bert", *, share: str = "none", seed: int = 0) -> Path:
    """A classifier of one block with random weights, saved as `pkd-student fit` saves one."""
    encoder = save_encoder(folder.with_name(f"{folder.name}-encoder"), family, layers=1)
    model = build_classifier(str(encoder), RTE, layers=1, seed=seed, dropout=None)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    own = sum(p.numel() for p in model.parameters())
    unshared(share_layers(model, share)).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    record = {"max_length": 24, "share": share, "student_layers": 1, "parameters": own}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def export(student: Path, *, cache: Path | None = None, int8: bool = False) -> Exported:
    """Export beside the student."""
    folder = student.with_name(f"{student.name}-onnx")
    record = export_student(student, folder, int8=int8, cache=cache, overwrite=False)
    return Exported(student, folder, record)


def export_bert(root: Path, world: World) -> Exported:
    """Both files, checked and scored on the rows of a cache."""
    return export(save_student(root / "bert"), cache=world.cache16, int8=True)
