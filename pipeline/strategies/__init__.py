"""What the student matches, one small file per method; this table is the list of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ParamsError, did_you_mean
from pipeline.layers import MAPPED, UNMATCHED

if TYPE_CHECKING:
    from pipeline.params import StudentParams
    from pipeline.strategies.base import Shapes, Strategy

STRATEGIES = {
    **dict.fromkeys(MAPPED, "pipeline.strategies.patient:Patient"),
    "emd": "pipeline.strategies.emd:EarthMover",
    "rail": "pipeline.strategies.rail:Rail",
    "rail-concat": "pipeline.strategies.rail:RailConcat",
    "alp": "pipeline.strategies.alp:Attentive",
    "contrastive": "pipeline.strategies.contrastive:Contrastive",
}


def make_strategy(shapes: Shapes, params: StudentParams) -> Strategy:
    """Build the strategy that `params.strategy` names.

    Args:
        shapes: of teacher, student and data.
        params: a name of `STRATEGIES`, finetune, kd, a list of teacher layers, or `module:Class`.

    Raises:
        ParamsError: no such strategy (the nearest is suggested), or one that does not fit.
    """
    from pipeline.strategies.base import Strategy

    name = params.strategy
    if name in UNMATCHED:
        return Strategy(shapes, params)
    if ":" in name:
        return _require_layers(_load_own(name)(shapes, params), name)
    if name not in STRATEGIES and name[:1].isdigit():
        name = "skip"  # a list of layers is a patient map; it reads the list itself
    if name not in STRATEGIES:
        known = [*UNMATCHED, *STRATEGIES]
        raise ParamsError(
            f"Unknown strategy `{name}`.{did_you_mean(name, known)} Expected {', '.join(known)}, "
            "teacher layers such as 2,4,6,8,10, or a class of your own as module:Class."
        )
    strategy: Strategy = _load(STRATEGIES[name])(shapes, params)
    return strategy


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _load_own(path: str) -> type[Strategy]:
    from pipeline.strategies.base import Strategy

    here = str(Path.cwd())
    if here not in sys.path:
        # `python` looks there by itself, a console script such as `pkd-student` does not. It stays,
        # for what the module imports later, and comes last, so that it hides nothing installed.
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        found = _load(path)
    except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise ParamsError(
            f"--strategy {path}: {error}. Expected module:Class, importable from the working "
            "directory."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ParamsError(
            f"--strategy {path}: not a subclass of pipeline.strategies.base.Strategy."
        )
    return found


def _require_layers(strategy: Strategy, name: str) -> Strategy:
    count = strategy.shapes.teacher_layers
    for layer in strategy.teacher_layers:
        if layer not in range(1, count + 1):
            raise ParamsError(
                f"--strategy {name}: its `teacher_layers` names layer {layer}; the teacher has "
                f"layers 1..{count}."
            )
    return strategy
