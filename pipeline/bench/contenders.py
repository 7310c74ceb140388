"""What a bench compares: classifiers in PyTorch, and their exports in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ParamsError
from pipeline.export.record import Export, read_export
from pipeline.export.runtime import OnnxClassifier
from pipeline.models.identity import WEIGHT_FILES, identify_model
from pipeline.models.inputs import input_names, made_up_rows, positions_of
from pipeline.models.load import load_classifier, load_config, load_tokenizer
from pipeline.models.sizes import Sizes, sizes_of

TEACHER, STUDENT = "teacher", "student"
RUNTIMES = {"pytorch": "PyTorch", "float32": "ONNX", "int8": "ONNX int8"}
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model in one runtime, ready to run."""

    name: str
    role: str
    """`teacher` or `student`."""
    runtime: str
    """Key of `RUNTIMES`."""
    model: str
    """Name of the model that it computes; an export has that of its student."""
    digest: str
    """Of that model's weights and configuration."""
    sizes: Sizes
    size_bytes: int | None
    """Of its weights on disk; None for a model of the hub."""
    scores: Mapping[str, Any]
    """Split to metric to value, where an export has measured them; else empty."""
    device: torch.device
    config: Any
    tokenizer: Any
    inputs: tuple[str, ...]
    bind: Callable[[dict[str, Any]], Callable[[], object]]
    """Makes of a batch what runs it."""

    def work(self, batch_size: int, length: int) -> Callable[[], object]:
        """What runs one batch of made-up rows, each of `length` tokens, without padding."""
        rows = made_up_rows(self.tokenizer, self.config, self.inputs, [length] * batch_size)
        return self.bind(rows.batch(torch.arange(batch_size), length))

    def to_dict(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "name": self.name,
            "role": self.role,
            "runtime": self.runtime,
            "model": self.model,
            "digest": self.digest,
            "sizes": self.sizes.to_dict(),
            "parameters": self.sizes.total,
            "size_bytes": self.size_bytes,
            "scores": dict(self.scores),
            "device": str(self.device),
        }


def in_pytorch(folder: str, role: str, device: torch.device) -> Contender:
    """A classifier in PyTorch, float32.

    Raises:
        ModelError: no classifier, or no tokenizer.
    """
    model, tokenizer = load_classifier(folder).to(device), load_tokenizer(folder)
    path = Path(folder).expanduser()
    files = [each for kind in WEIGHT_FILES for each in path.glob(kind)]
    name = path.resolve().name if path.is_dir() else folder
    return Contender(
        name=f"{name} (teacher)" if role == TEACHER else name,
        role=role,
        runtime="pytorch",
        model=name,
        digest=identify_model(model),
        sizes=sizes_of(model, path),
        size_bytes=sum(each.stat().st_size for each in files) or None,
        scores={},
        device=device,
        config=model.config,
        tokenizer=tokenizer,
        inputs=input_names(model, tokenizer),
        bind=lambda batch: partial(model, **{n: value.to(device) for n, value in batch.items()}),
    )


def exported(folder: Path, threads: int) -> list[Contender]:
    """The files of one export in onnxruntime, on the CPU.

    Raises:
        ModelError: the folder is no export.
        ExportError: no onnxruntime.
    """
    export = read_export(folder)
    config, tokenizer = load_config(str(folder)), load_tokenizer(str(folder))
    return [_in_onnx(export, kind, config, tokenizer, threads) for kind in export.size_bytes]


def _in_onnx(export: Export, kind: str, config: Any, tokenizer: Any, threads: int) -> Contender:
    loaded = OnnxClassifier(export.path(kind), threads)
    return Contender(
        name=f"{export.folder.resolve().name}, {RUNTIMES[kind]}",
        role=STUDENT,
        runtime=kind,
        model=export.student,
        digest=export.digest,
        sizes=export.sizes,
        size_bytes=export.size_bytes[kind],
        scores=export.scores[kind],
        device=CPU,
        config=config,
        tokenizer=tokenizer,
        inputs=loaded.inputs,
        bind=lambda batch: partial(loaded.run, loaded.feed(batch)),
    )


def require_fit(contenders: Sequence[Contender], lengths: Sequence[int]) -> None:
    """Refuse lengths that a contender cannot read, and two contenders of one name."""
    for each in contenders:
        limit = positions_of(each.config)
        if limit and max(lengths) > limit:
            raise ParamsError(
                f"--lengths {max(lengths)}: {each.name} reads at most {limit} tokens."
            )
    names = [each.name for each in contenders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParamsError(
            f"{', '.join(twice)}: given twice; contenders are told apart by the names of their "
            "folders."
        )
