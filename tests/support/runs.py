"""Training terms for a tiny world, as `fit_student` makes them."""

from __future__ import annotations

from typing import Any

from pipeline.params import StudentParams
from pipeline.strategies import make_strategy
from pipeline.strategies.base import Shapes, Strategy
from pipeline.student.recipe import objective_of
from pipeline.student.targets import Targets
from pipeline.student.terms import DistillationTerms


def strategy_for(
    params: StudentParams,
    *,
    teacher_layers: int = 4,
    hidden: int = 16,
    rows: int = 150,
    **more: Any,
) -> Strategy:
    """A strategy for a tiny teacher."""
    shapes: dict[str, Any] = {
        "teacher_layers": teacher_layers, "student_layers": params.student_layers,
        "teacher_hidden": hidden, "student_hidden": hidden, "rows": rows, "classes": 2,
    }  # fmt: skip
    return make_strategy(Shapes(**(shapes | more)), params)


def terms_for(model: Any, params: StudentParams, targets: Targets | None) -> DistillationTerms:
    """One forward pass and its losses."""
    strategy = strategy_for(params)
    return DistillationTerms(model, objective_of(params, strategy), targets, strategy)
