"""`--strategy auto`: the teacher layers of a map, chosen by linear probes on the cache itself.

A map by depth alone cannot know where this teacher learns this task; the cache does. How layers are
chosen is `pipeline.probe.layers.choose_layers`; here that becomes a strategy of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.layers import require_as_deep
from pipeline.models.sharing import counted_as, match_every, passes
from pipeline.params import StudentParams
from pipeline.probe.layers import choose_layers, probe_layers
from pipeline.progress import Tick, silent
from pipeline.store.reader import TeacherCache
from pipeline.strategies import AUTO, require_takes_top

SEED = 0  # of the probes' draw, whatever the run's: all seeds of a student get the same layers


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The layers that were chosen, and why."""

    layers: tuple[int, ...]
    """Teacher layers for student layers 1, 2, ...; () where the student has none to match."""
    metric: str
    """The task's first one."""
    held_out: Mapping[int, float]
    """Each cached layer's probe, scored on training rows that it was not fitted on."""

    @property
    def reason(self) -> str:
        """Which layers and why, in one line."""
        if not self.layers:
            return "auto: a student of one layer has none to match"
        scores = ", ".join(f"{layer}: {score:.3f}" for layer, score in self.held_out.items())
        return (
            f"auto: layers {_text(self.layers)}, at equal steps of what linear probes know "
            f"(held-out {self.metric} by layer {scores})"
        )

    def to_dict(self) -> dict[str, Any]:
        """For `run.json`."""
        held_out = {str(layer): score for layer, score in self.held_out.items()}
        return {"layers": list(self.layers), "metric": self.metric, "held_out": held_out}


def choose(cache: TeacherCache, params: StudentParams, tick: Tick = silent) -> Choice:
    """Choose a teacher layer for each student layer that a map matches, all but the last.

    The same for every seed of the run, and from training rows alone: the validation rows, which
    score the students, have no part in it. Vectors are read layer by layer and not kept.

    Args:
        cache: with labelled training rows.
        params: of the run; its depth and `share` say how many layers are wanted.
        tick: told of probes.

    Raises:
        ParamsError: a student deeper than its teacher, or `match_top`, which makes a map itself.
        CacheMismatchError: too few cached layers, or labelled rows of too few or of one class.
    """
    require_takes_top(params)
    every, task, n = match_every(params), cache.manifest.task, cache.manifest.teacher["layers"]
    matched = len(passes(params.student_layers, params.share)) // every
    require_as_deep(AUTO, n, matched, counted_as(params, every))
    metric = str(task["metrics"][0])
    if matched == 1:
        return Choice(layers=(), metric=metric, held_out={})
    probes = probe_layers(cache, seed=SEED, validation=False, tick=tick)
    held_out = {probe.layer: probe.held_out for probe in probes}
    return Choice(layers=choose_layers(probes, n, matched - 1), metric=metric, held_out=held_out)


def undecided(params: StudentParams) -> StudentParams:
    """What of a run can be checked before its layers are chosen: all but the map."""
    return replace(params, strategy="kd", match_top=None) if params.strategy == AUTO else params


def decided(params: StudentParams, choice: Choice) -> StudentParams:
    """The same run with its layers named; as skip where there are none."""
    return replace(params, strategy=_text(choice.layers) or "skip")


def _text(layers: tuple[int, ...]) -> str:
    return ",".join(str(layer) for layer in layers)
