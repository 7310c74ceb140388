"""What the student matches, one small file per method; this table is the list of them."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.digests import digest_file
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

AUTO = "auto"  # not in the table: `pipeline.student.auto_layers` turns it into a list of layers
KNOWN = (*UNMATCHED, *MAPPED, AUTO, *(name for name in STRATEGIES if name not in MAPPED))


def make_strategy(shapes: Shapes, params: StudentParams) -> Strategy:
    """Build the strategy that `params.strategy` names.

    Args:
        shapes: of teacher, student and data.
        params: a name of `STRATEGIES`, finetune, kd, a list of teacher layers, or `module:Class`.

    Raises:
        ParamsError: no such strategy (the nearest is suggested), one that does not fit, `auto`,
            whose layers must be chosen first, or `match_top` where nothing heeds it.
    """
    from pipeline.strategies.base import Strategy

    name = params.strategy
    _require_known(name)
    require_takes_top(params)
    if name in UNMATCHED:
        return Strategy(shapes, params)
    if ":" in name:
        return _require_layers(_load_own(name)(shapes, params), name)
    # a list of layers is a patient map; it reads the list itself
    strategy: Strategy = _load(STRATEGIES["skip" if _is_list(name) else name])(shapes, params)
    return strategy


def require_takes_top(params: StudentParams) -> None:
    """Refuse `match_top` for a strategy that does not heed it; raises ParamsError."""
    name = params.strategy
    if params.match_top is None or name in MAPPED or _is_list(name):
        return  # a list says itself that it has no room for it
    raise ParamsError(
        f"--match-top {params.match_top}: strategy {name} does not take it; {', '.join(MAPPED)} do."
    )


def _require_known(name: str) -> None:
    if name == AUTO:
        raise ParamsError(
            "Strategy auto: its layers are chosen from a cache first; see "
            "pipeline.student.auto_layers."
        )
    if name not in KNOWN and not _is_list(name) and ":" not in name:
        raise ParamsError(
            f"Unknown strategy `{name}`.{did_you_mean(name, KNOWN)} Expected {', '.join(KNOWN)}, "
            "teacher layers such as 2,4,6,8,10, or a class of your own as module:Class."
        )


def _is_list(name: str) -> bool:
    return name[:1].isdigit() and ":" not in name


def source_digest(name: str) -> str | None:
    """sha256 of the file that a strategy of one's own is written in.

    What that file imports is not in it. None for other strategies, and without a file.

    Raises:
        ParamsError: no such class.
    """
    if ":" not in name:
        return None
    path = inspect.getsourcefile(_load_own(name))
    return digest_file(Path(path)) if path and Path(path).is_file() else None


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
