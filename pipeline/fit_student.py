"""Stage two: train a student from a cache alone. No teacher is loaded, no file of one opened.

Shapes: B rows of a batch, L matched layer pairs, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from pipeline.batches import Rows
from pipeline.card import student_card
from pipeline.devices import pick_device
from pipeline.errors import CacheMismatchError, ParamsError
from pipeline.layers import layer_map
from pipeline.losses import Objective
from pipeline.models import Init, build_classifier, cls_states, identify_init, load_tokenizer
from pipeline.params import StudentParams
from pipeline.runs import finished_record, identifying
from pipeline.session import Session, run_session
from pipeline.store.manifest import Manifest
from pipeline.store.reader import TeacherCache
from pipeline.targets import Targets, load_targets
from pipeline.tasks import Task
from pipeline.training import StepLog, Terms

RUN_RECORD = "run.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run distils: settled before anything large is loaded."""

    task: Task
    layers: tuple[int, ...]
    """Teacher layer for student layer 1, 2, ...; () when nothing is matched."""
    objective: Objective
    init: str


def settle(manifest: Manifest, params: StudentParams, where: str) -> Recipe:
    """Check that a cache can give what the parameters ask for.

    Raises:
        ParamsError: a layer map that does not fit, or no encoder to start from.
        CacheMismatchError: a layer that is not cached.
    """
    layers = layer_map(params.strategy, manifest.teacher["layers"], params.student_layers)
    missing = [layer for layer in layers if layer not in manifest.layers]
    if missing:
        raise CacheMismatchError(
            f"{where}: strategy {params.strategy} needs layers {_text(layers)}; the cache lacks "
            f"{_text(missing)}. Rebuild it with `pkd-cache build --layers all`."
        )
    return Recipe(
        task=Task.from_dict(manifest.task),
        layers=layers,
        objective=objective_of(params, layers),
        init=params.init or _recorded_base(manifest),
    )


def objective_of(params: StudentParams, layers: tuple[int, ...]) -> Objective:
    """The weights of a strategy: `finetune` has labels alone, `kd` no patient term."""
    return Objective(
        alpha=0.0 if params.strategy == "finetune" else params.alpha,
        beta=params.beta if layers else 0.0,
        temperature=params.temperature,
        reduction=params.reduction,  # type: ignore[arg-type]  # its choices are checked
        normalize=params.normalize,
    )


def _text(layers: Any) -> str:
    return ",".join(str(layer) for layer in layers)


def _recorded_base(manifest: Manifest) -> str:
    base = manifest.teacher.get("base") or {}
    if hub_id := base.get("hub_id"):
        return str(hub_id)
    of = f" (the teacher started from a local folder named `{base['name']}`)" if base else ""
    raise ParamsError(
        f"No encoder for the student to start from{of}: pass --init MODEL, or set student.init in "
        "params.yaml."
    )


def distillation_terms(
    model: Any, objective: Objective, targets: Targets | None, layers: tuple[int, ...]
) -> Terms:
    """One forward pass of the student and its weighted losses.

    Args:
        model: the student.
        objective: weights of the terms.
        targets: the teacher's outputs; None for `finetune`.
        layers: matched teacher layers; student layers 1..len(layers) learn them in order.
    """
    matched = tuple(range(1, len(layers) + 1))

    def terms(inputs: dict[str, Tensor], rows_B: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        output = model(**inputs, output_hidden_states=bool(matched))
        if targets is None:
            return objective.terms(output.logits, labels_B, None, None, None)
        teacher_BK, teacher_BLH = targets(rows_B, inputs)
        cls_BLH = cls_states(output.hidden_states, matched) if matched else None
        return objective.terms(output.logits, labels_B, teacher_BK, cls_BLH, teacher_BLH)

    return terms


def fit_student(
    *,
    cache_path: Path | str,
    out: Path | None,
    params: StudentParams,
    sources: dict[str, str],
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[StepLog], None] = lambda _: None,
) -> tuple[Path, dict[str, Any]]:
    """Train one student.

    Args:
        cache_path: a finished cache: a folder, or any fsspec URL.
        out: the student's folder; None = `data/students/<task>-<strategy>-<layers>-s<seed>`.
        params: every option.
        sources: where each parameter came from, for the record.
        resume: go on from a checkpoint of the same run.
        overwrite: replace a student that came from other inputs.
        on_step: told of steps.

    Returns:
        The folder, and the record in its `run.json`; with "existed": True when there was nothing to
        do.

    Raises:
        CacheError and its kin, ParamsError, ModelError, OutputExistsError, TrainingError.
    """
    cache = TeacherCache.open(cache_path)
    manifest = cache.manifest
    recipe = settle(manifest, params, str(cache_path))
    out = out or default_folder(recipe.task, params)
    device = pick_device(params.device)
    init = identify_init(recipe.init)
    identity = identity_of(manifest, init, params)
    if record := finished_record(out, RUN_RECORD, identity, overwrite=overwrite):
        return out, record | {"existed": True}
    tokenizer = load_tokenizer(recipe.init)
    require_tokenizer(manifest, tokenizer, recipe.init)
    model = build_classifier(
        recipe.init,
        recipe.task,
        layers=params.student_layers,
        seed=params.seed,
        dropout=params.dropout,
    ).to(device)
    require_width(manifest, model, recipe)
    rows = load_rows(cache, "train", device)
    splits = {name: load_rows(cache, name, device) for name in recipe.task.validation_splits}
    needs_teacher = recipe.objective.alpha > 0 or recipe.layers
    targets = load_targets(cache, "train", recipe.layers, device) if needs_teacher else None
    session = Session(
        out=out,
        record_name=RUN_RECORD,
        identity=identity,
        task=recipe.task,
        params=params,
        device=device,
        model=model,
        tokenizer=tokenizer,
        rows=rows,
        splits=splits,
        terms=distillation_terms(model, recipe.objective, targets, recipe.layers),
        described=describe_recipe(manifest, recipe, params, sources, init, cache_path)
        | {"name": out.name},
        card=student_card,
    )
    return out, run_session(session, resume=resume, on_step=on_step)


def default_folder(task: Task, params: StudentParams) -> Path:
    """Where a student goes when nothing is said."""
    strategy = params.strategy.replace(",", "_")
    return Path(f"data/students/{task.name}-{strategy}-{params.student_layers}-s{params.seed}")


def identity_of(manifest: Manifest, init: Init, params: StudentParams) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {
        "cache": manifest.content_digest,
        "init": init.to_dict(),
        "params": identifying(params),
    }


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


def require_width(manifest: Manifest, model: Any, recipe: Recipe) -> None:
    """Refuse to match [CLS] vectors of another width."""
    width = model.config.hidden_size
    if recipe.layers and width != manifest.hidden_size:
        raise CacheMismatchError(
            f"--init {recipe.init}: its hidden size is {width}, the cached [CLS] vectors have "
            f"{manifest.hidden_size}; start from an encoder of that width, or use --strategy kd."
        )


def load_rows(cache: TeacherCache, split: str, device: torch.device) -> Rows:
    """Tokens and labels of a split, resident on `device`."""
    pad_id = cache.manifest.tokenizer["pad_id"]
    return Rows.from_examples(cache.examples(split), pad_id).to(device)


def describe_recipe(
    manifest: Manifest,
    recipe: Recipe,
    params: StudentParams,
    sources: dict[str, str],
    init: Init,
    cache_path: Path | str,
) -> dict[str, Any]:
    """The part of `run.json` that is known before training."""
    return {
        "kind": "student",
        "strategy": params.strategy,
        "layer_map": [[place, layer] for place, layer in enumerate(recipe.layers, start=1)],
        "student_layers": params.student_layers,
        "teacher_layers": manifest.teacher["layers"],
        "seed": params.seed,
        "params": asdict(replace(params, init=init.name)),
        "params_from": sources,
        "objective": asdict(recipe.objective),
        "cache": {
            "name": PurePosixPath(str(cache_path)).name,
            "cache_id": manifest.cache_id,
            "content_digest": manifest.content_digest,
            "dtype": manifest.dtype,
        },
        "teacher": manifest.teacher,
        "init": init.to_dict(),
        "max_length": manifest.max_length,
    }
