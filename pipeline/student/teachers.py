"""Several teachers of one student: their caches joined row by row.

Shapes: N rows, B rows of a batch, K outputs, A teachers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
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
        CacheMismatchError: another task, other label names, or rows that one has and one has not.
    """
    for name in ("name", "label_names"):
        one, two = first.manifest.task[name], other.manifest.task[name]
        if one != two:
            raise CacheMismatchError(
                f"{other.text}: its task's {name} is {two}, that of {first.text} is {one}; "
                "teachers of one student must be of one task."
            )
    place = {digest: row for row, digest in enumerate(_digests(other, split))}
    wanted = _digests(first, split)
    _require_same_rows(first, other, split, wanted, place)
    return torch.tensor([place[digest] for digest in wanted], dtype=torch.int64)


def _require_same_rows(
    first: TeacherCache,
    other: TeacherCache,
    split: str,
    wanted: Sequence[bytes],
    place: Mapping[bytes, int],
) -> None:
    advice = "Build both from the same data, with one tokenizer and one --max-length."
    if missing := [row for row, digest in enumerate(wanted) if digest not in place]:
        raise CacheMismatchError(
            f"{other.text}: lacks {len(missing):,} of the {len(wanted):,} {split} rows of "
            f"{first.text} (row {missing[0]} first). {advice}"
        )
    if more := place.keys() - set(wanted):
        raise CacheMismatchError(
            f"{other.text}: has {len(more):,} {split} rows that {first.text} lacks (row "
            f"{min(place[digest] for digest in more)} first). {advice}"
        )


def _digests(cache: TeacherCache, split: str) -> list[bytes]:
    digests: list[bytes] = cache.examples(split)["row_digest"].to_pylist()
    return digests


def require_teachers(params: Any, teachers: int) -> None:
    """Refuse options of several teachers that cannot be, before anything is read: ParamsError."""
    if teachers > 1:
        parse_weights(params.cache_weights, teachers)
    elif params.cache_weights is not None or params.teachers != "averaged":
        given = "--cache-weights" if params.cache_weights is not None else "--teachers"
        raise ParamsError(f"{given} is for several teachers; name each one's cache with --cache.")


def parse_weights(text: str | None, teachers: int) -> tuple[float, ...]:
    """Weights that sum to 1, from "0.7,0.3"; equal ones when left out. Raises ParamsError."""
    if text is None:
        return (1 / teachers,) * teachers
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    finite = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if len(weights) != teachers or not finite or sum(weights) <= 0:
        raise ParamsError(
            f"--cache-weights {text}: expected {teachers} numbers >= 0, one for each --cache."
        )
    return tuple(weight / sum(weights) for weight in weights)


def other_logits(
    first: TeacherCache, others: Sequence[TeacherCache], split: str, device: torch.device
) -> list[Tensor]:
    """(N, K) logits of each other cache in the row order of the first, on `device`."""
    found = []
    for other in others:
        rows_N = matching_rows(first, other, split)
        found.append(torch.from_numpy(other.logits(split))[rows_N].to(device))
    return found


def averaged(
    targets: CachedTargets, others: Sequence[Tensor], weights: Sequence[float], temperature: float
) -> CachedTargets:
    """Targets whose softened outputs are the weighted mean of the teachers'.

    softmax(t / T) = sum_a w_a softmax(t_a / T), so t = T log of that sum, but for a constant of
    each row, which a softmax does not see and a squared difference of logits does. It is chosen so
    that the mean of t over the classes is the weighted mean of the teachers': a teacher averaged
    with itself stays as it is. A regression's are the weighted mean. [CLS] stays that of the first
    teacher.

    Args:
        targets: of the first teacher.
        others: (N, K) logits of the others, row by row.
        weights: A numbers that sum to 1.
        temperature: T of the distillation.
    """
    logits_ANK = torch.stack([targets.logits_NK, *others])
    weight_A11 = torch.tensor(weights).to(logits_ANK)[:, None, None]
    mean_NK = (weight_A11 * logits_ANK).sum(0)
    if logits_ANK.shape[-1] == 1:
        return replace(targets, logits_NK=mean_NK)
    log_ANK = torch.log_softmax(logits_ANK / temperature, dim=-1) + weight_A11.log()
    mixed_NK = temperature * torch.logsumexp(log_ANK, dim=0)
    level_N1 = (mean_NK - mixed_NK).mean(-1, keepdim=True)
    return replace(targets, logits_NK=mixed_NK + level_N1)


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
    weights = parse_weights(params.cache_weights, 1 + len(others))
    if params.teachers == "drawn":
        return DrawnTargets(targets, others, weights, params.seed)
    return averaged(targets, others, weights, params.temperature)
