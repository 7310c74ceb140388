"""What a student's run is: settled from a cache's manifest before anything large is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from pipeline.errors import CacheMismatchError, ParamsError
from pipeline.losses import Objective
from pipeline.models.identity import Init
from pipeline.models.sharing import passes
from pipeline.params import StudentParams
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.strategies import make_strategy, source_digest
from pipeline.strategies.base import Shapes, Strategy
from pipeline.student.init import Start, settle_start
from pipeline.student.ptp import require_lesson
from pipeline.tasks import Task
from pipeline.training.runs import identifying


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run distils: settled before anything large is loaded."""

    task: Task
    start: Start
    strategy: Strategy
    objective: Objective


def settle(manifest: Manifest, params: StudentParams, where: str) -> Recipe:
    """Check that a cache can give what the parameters ask for.

    Raises:
        ParamsError: options that contradict each other or the task, or no encoder to start from.
        ModelError: an encoder that does not fit.
        CacheMismatchError: a layer that is not cached, or vectors of another width.
    """
    require_lesson(manifest, params, where)
    start = settle_start(params.init or _recorded_base(manifest, params), manifest, params)
    shapes = Shapes(
        teacher_layers=manifest.teacher["layers"],
        student_layers=start.passes,
        teacher_hidden=manifest.hidden_size,
        student_hidden=start.hidden_size,
        rows=manifest.splits["train"].rows,
        classes=manifest.outputs,
        labelled_rows=manifest.splits["train"].labelled_rows,
    )
    projects = params.project or params.hidden_size is not None
    torch.manual_seed(params.seed)  # of what the strategy learns
    strategy = make_strategy(shapes, replace(params, project=projects))
    _require_layers(manifest, strategy, params.strategy, where)
    strategy.require_width(start.init, where)
    objective = objective_of(params, strategy)
    _require_labels(manifest, objective, where)
    task = Task.from_dict(manifest.task)
    return Recipe(task=task, start=start, strategy=strategy, objective=objective)


def _require_labels(manifest: Manifest, objective: Objective, where: str) -> None:
    """Annealing ends with the labels alone: without any, half of its epochs would learn nothing."""
    annealed = objective.kd_loss == "annealed" and objective.alpha > 0
    if annealed and not manifest.splits["train"].labelled_rows:
        raise CacheMismatchError(
            f"{where}: has no labelled training rows; --kd-loss annealed learns from labels alone "
            "in the second half of its epochs. Use --kd-loss kl or mse."
        )


def _require_layers(manifest: Manifest, strategy: Strategy, name: str, where: str) -> None:
    needed = strategy.teacher_layers
    if missing := [layer for layer in needed if layer not in manifest.layers]:
        raise CacheMismatchError(
            f"{where}: strategy {name} needs layers {_text(needed)}; the cache lacks "
            f"{_text(missing)}. Rebuild it with `pkd-cache build --layers all`."
        )


def objective_of(params: StudentParams, strategy: Strategy) -> Objective:
    """The weights of a strategy: `finetune` has labels alone, `kd` no term for [CLS]."""
    return Objective(
        alpha=0.0 if params.strategy == "finetune" else params.alpha,
        beta=params.beta if strategy.teacher_layers else 0.0,
        temperature=params.temperature,
        reduction=params.reduction,  # type: ignore[arg-type]  # its choices are checked
        kd_loss=params.kd_loss,
        label_smoothing=params.label_smoothing,
        epochs=params.epochs,
    )


def _text(layers: Any) -> str:
    return ",".join(str(layer) for layer in layers)


def _recorded_base(manifest: Manifest, params: StudentParams) -> str:
    if params.init_layers == "teacher":
        raise ParamsError(
            f"--init-layers teacher: name the folder of {manifest.teacher['name']} with --init."
        )
    base = manifest.teacher.get("base") or {}
    if hub_id := base.get("hub_id"):
        return str(hub_id)
    of = f" (the teacher started from a local folder named `{base['name']}`)" if base else ""
    raise ParamsError(
        f"No encoder for the student to start from{of}: pass --init MODEL, or set student.init in "
        "params.yaml."
    )


def default_folder(task: Task, params: StudentParams) -> Path:
    """Where a student goes when nothing is said.

    `data/students/TASK-STRATEGY-LAYERS-sSEED`, with `--share` and `--pretrain` before the seed.
    """
    strategy = params.strategy.replace(",", "_").replace(":", "-")
    kinds = [kind for kind in (params.share, params.pretrain) if kind != "none"]
    parts = [task.name, strategy, str(params.student_layers), *kinds, f"s{params.seed}"]
    return Path("data/students") / "-".join(parts)


def identity_of(manifest: Manifest, init: Init, params: StudentParams) -> dict[str, Any]:
    """What makes two runs the same run.

    Layers that `auto` chooses follow from the cache. A strategy of one's own is another when its
    file has changed.
    """
    source = source_digest(params.strategy)
    return {
        "cache": manifest.content_digest,
        "init": init.to_dict(),
        "params": identifying(params),
    } | ({"strategy_source": source} if source else {})


def require_tokenizer(manifest: Manifest, tokenizer: Any, init: str) -> None:
    """Refuse an encoder whose vocabulary is not the one that the cached tokens were made with."""
    from pipeline.digests import digest_tokenizer

    found, wanted = digest_tokenizer(tokenizer), manifest.tokenizer["digest"]
    if found != wanted:
        raise CacheMismatchError(
            f"{init}: its tokenizer ({found[:12]}) is not the one of the cached tokens "
            f"({manifest.tokenizer['name']}, {wanted[:12]}). Use a model with the teacher's "
            "vocabulary, or build a cache with a teacher that has this one."
        )


def describe_recipe(
    cache: TeacherCache,
    recipe: Recipe,
    params: StudentParams,
    sources: dict[str, str],
    init: Init,
) -> dict[str, Any]:
    """The part of `run.json` that is known before training."""
    manifest = cache.manifest
    return {
        "kind": "student",
        "strategy": params.strategy,
        "layer_map": [list(pair) for pair in recipe.strategy.pairs],
        "teacher_layers_read": list(recipe.strategy.teacher_layers),
        "student_layers": params.student_layers,
        "share": params.share,
        "passes": list(passes(params.student_layers, params.share)),
        "block_passes": recipe.start.passes,
        "start_layers": list(recipe.start.layers),
        "pretrain": None,
        "teacher_layers": manifest.teacher["layers"],
        "seed": params.seed,
        "params": asdict(replace(params, init=init.name)),
        "params_from": sources,
        "objective": asdict(recipe.objective),
        "cache": {
            "name": PurePosixPath(cache.text).name,
            "cache_id": manifest.cache_id,
            "content_digest": manifest.content_digest,
            "dtype": manifest.dtype,
        },
        "teacher": manifest.teacher,
        "init": init.to_dict(),
        "max_length": manifest.max_length,
    }
