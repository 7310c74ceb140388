"""What the student matches, one small file per method; this table is the list of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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
    if name not in STRATEGIES and name[:1].isdigit():
        name = "skip"  # a list of layers is a patient map; it reads the list itself
    path = STRATEGIES.get(name, name)
    if ":" not in path:
        known = [*UNMATCHED, *STRATEGIES]
        raise ParamsError(
            f"Unknown strategy `{name}`.{did_you_mean(name, known)} Expected {', '.join(known)}, "
            "teacher layers such as 2,4,6,8,10, or a class of your own as module:Class."
        )
    return _load(path)(shapes, params)


def _load(path: str) -> type[Strategy]:
    from pipeline.strategies.base import Strategy

    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParamsError(
            f"--strategy {path}: {error}. Expected module:Class, importable from the working "
            "directory."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ParamsError(
            f"--strategy {path}: not a subclass of pipeline.strategies.base.Strategy."
        )
    return found
