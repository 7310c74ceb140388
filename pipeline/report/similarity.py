"""How close each student layer's [CLS] is to each teacher layer's: mean cosine similarity.

Shapes: N rows, M student layers, L teacher layers, H hidden size. The distance that PKD trains on,
the squared distance of the L2-normalised vectors, is 2 - 2 * cosine: the same picture upside down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.batches import batches_of, spread_rows
from pipeline.errors import CacheMismatchError
from pipeline.models.hidden_states import cls_states
from pipeline.report.records import StudentRun
from pipeline.report.tokens import CacheView

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class LayerSimilarity:
    """One student against the layers of its teacher."""

    run: StudentRun
    cosine_ML: np.ndarray[Any, Any]
    """Mean over the rows, in [-1, 1]."""
    teacher_layers: tuple[int, ...]
    """The teacher layers of the columns."""
    rows: int


def mean_cosine(student_NMH: Tensor, teacher_NLH: Tensor) -> Tensor:
    """(M, L): cosine of every student layer with every teacher layer, mean over the N rows."""
    student = functional.normalize(student_NMH, dim=-1)
    teacher = functional.normalize(teacher_NLH, dim=-1)
    return torch.einsum("nmh,nlh->ml", student, teacher) / len(student)


def student_cls(model: Any, batches: list[dict[str, Tensor]], device: torch.device) -> Tensor:
    """(N, M, H) [CLS] vectors of layers 1..M, in the order of the batches."""
    layers = tuple(range(1, model.config.num_hidden_layers + 1))
    found = []
    with torch.inference_mode():
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.items()}
            output = model(**inputs, output_hidden_states=True)
            found.append(cls_states(output.hidden_states, layers).float().cpu())
    return torch.cat(found)


def layer_similarity(
    run: StudentRun, model: Any, view: CacheView, rows: int, device: torch.device
) -> LayerSimilarity:
    """Compare a loaded student with the cached teacher on `rows` evenly spaced validation rows.

    Raises:
        CacheMismatchError: another cache, or hidden sizes that differ.
    """
    view.require_for(run)
    if model.config.hidden_size != view.hidden_size:
        raise CacheMismatchError(
            f"its hidden size is {model.config.hidden_size}, the teacher's {view.hidden_size}"
        )
    tokens = view.rows()
    chosen = spread_rows(len(tokens), rows)
    student = student_cls(model.to(device), batches_of(tokens, chosen, BATCH_SIZE), device)
    cosine = mean_cosine(student, view.teacher_cls(chosen))
    return LayerSimilarity(
        run=run, cosine_ML=cosine.numpy(), teacher_layers=view.layers, rows=len(chosen)
    )
