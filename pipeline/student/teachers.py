"""Several teachers of one student: their caches joined row by row.

Shapes: N rows, B rows of a batch, K outputs, A teachers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import CacheMismatchError, ParamsError
from pipeline.store.reader import TeacherCache
from pipeline.student.targets import CachedTargets


def matching_rows(first: TeacherCache, other: TeacherCache, split: str) -> Tensor:
    """(N,) int64: for each row of the first cache, the row of another with the same teacher input.

    Raises:
        CacheMismatchError: another task, other label names, or rows that the other does not have.
    """
    for name in ("name", "label_names"):
        one, two = first.manifest.task[name], other.manifest.task[name]
        if one != two:
            raise CacheMismatchError(
                f"{other.text}: its task's {name} is {two}, that of {first.text} is {one}; "
                "teachers of one student must be of one task."
            )
    place = {digest: row for row, digest in enumerate(_digests(other, split))}
    found = [place.get(digest) for digest in _digests(first, split)]
    if missing := [row for row, there in enumerate(found) if there is None]:
        raise CacheMismatchError(
            f"{other.text}: lacks {len(missing):,} of the {len(found):,} {split} rows of "
            f"{first.text} (row {missing[0]} first). Build both from the same data, with one "
            "tokenizer and one --max-length."
        )
    return torch.tensor(found, dtype=torch.int64)


def _digests(cache: TeacherCache, split: str) -> list[bytes]:
    digests: list[bytes] = cache.examples(split)["row_digest"].to_pylist()
    return digests


def parse_weights(text: str | None, teachers: int) -> tuple[float, ...]:
    """Weights that sum to 1, from "0.7,0.3"; equal ones when left out. Raises ParamsError."""
    if text is None:
        return (1 / teachers,) * teachers
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != teachers or min(weights, default=-1) < 0 or sum(weights) <= 0:
        raise ParamsError(
            f"--cache-weights {text}: expected {teachers} numbers >= 0, one for each --cache."
        )
    return tuple(weight / sum(weights) for weight in weights)


def other_logits(first: TeacherCache, others: Sequence[TeacherCache], split: str) -> list[Tensor]:
    """(N, K) logits of each other cache in the row order of the first."""
    found = []
    for other in others:
        rows_N = matching_rows(first, other, split)
        found.append(torch.from_numpy(other.logits(split))[rows_N])
    return found


def averaged(
    targets: CachedTargets, others: Sequence[Tensor], weights: Sequence[float], temperature: float
) -> CachedTargets:
    """Targets whose softened outputs are the weighted mean of the teachers'.

    softmax(t / T) = sum_a w_a softmax(t_a / T), so t = T log of that sum; a regression's are the
    mean. [CLS] stays that of the first teacher.

    Args:
        targets: of the first teacher.
        others: (N, K) logits of the others, row by row.
        weights: A numbers that sum to 1.
        temperature: T of the distillation.
    """
    logits_ANK = torch.stack([targets.logits_NK, *(o.to(targets.logits_NK) for o in others)])
    weight_A11 = torch.tensor(weights).to(logits_ANK)[:, None, None]
    if logits_ANK.shape[-1] == 1:
        return replace(targets, logits_NK=(weight_A11 * logits_ANK).sum(0))
    log_A = torch.log_softmax(logits_ANK / temperature, dim=-1) + weight_A11.log()
    return replace(targets, logits_NK=temperature * torch.logsumexp(log_A, dim=0))


@dataclass
class DrawnTargets:
    """One teacher a step, drawn by weight (SKD, Ding et al. 2022); [CLS] of the first always."""

    first: CachedTargets
    others: Sequence[Tensor]
    """(N, K) logits of the other teachers, row by row, on the same device."""
    weights: Sequence[float]
    seed: int
    _draw: random.Random = field(default_factory=random.Random)

    def start_epoch(self, epoch: int) -> None:
        """Draws depend on seed and epoch alone, so that a resumed run repeats them."""
        self._draw = random.Random(f"{self.seed} {epoch}")

    def prefetch(self, rows_B: Tensor) -> None:
        """See `CachedTargets.prefetch`."""
        self.first.prefetch(rows_B)

    def __call__(self, rows_B: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Logits of the drawn teacher, and the first one's [CLS]."""
        logits_BK, cls_BLH = self.first(rows_B, inputs)
        (drawn,) = self._draw.choices(range(len(self.weights)), weights=self.weights)
        return (logits_BK if drawn == 0 else self.others[drawn - 1][rows_B]), cls_BLH


def several_teachers(
    targets: CachedTargets, others: Sequence[Tensor], params: Any
) -> CachedTargets | DrawnTargets:
    """Combine teachers as `params.teachers` says: averaged, or drawn."""
    device = targets.logits_NK.device
    weights = parse_weights(params.cache_weights, 1 + len(others))
    moved = [logits.to(device) for logits in others]
    if params.teachers == "drawn":
        return DrawnTargets(targets, moved, weights, params.seed)
    return averaged(targets, moved, weights, params.temperature)
