"""What a build will write, settled before any row is computed, and whether it is there already."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.data import Prepared
from pipeline.errors import CacheError, OutputExistsError, ParamsError
from pipeline.existing import damaged_file, must_build
from pipeline.files import read_json
from pipeline.models.identity import identify_model, identify_tokenizer
from pipeline.models.inputs import require_length
from pipeline.models.load import is_hub_id
from pipeline.models.trained import DEFAULT_MAX_LENGTH, read_teacher_record
from pipeline.params import CacheParams
from pipeline.store.format import FORMAT_VERSION, MANIFEST, optional_arrays
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.plan import Plan, Share
from pipeline.store.shards import Layout
from pipeline.store.writer import PART
from pipeline.teacher.folds import OutOfFold
from pipeline.teacher.forward import Teacher

LIBRARIES = ("torch", "transformers", "tokenizers", "zarr", "numcodecs", "numpy", "pyarrow")


def plan_build(
    prepared: Prepared, teacher: Teacher, params: CacheParams, folds: OutOfFold | None = None
) -> tuple[Plan, dict[str, Any]]:
    """The plan of a build, and the manifest's fields that do not depend on its outcome."""
    record = read_teacher_record(teacher.name)
    layers = chosen_layers(params.layers, teacher.layers)
    max_length = params.max_length or record.get("max_length") or DEFAULT_MAX_LENGTH
    require_length(max_length, teacher.model.config, teacher.name)
    digest = identify_model(teacher.model)
    tokenizer = identify_tokenizer(teacher.tokenizer, teacher.name)
    identity = {
        "format_version": FORMAT_VERSION,
        "task": prepared.task.to_dict(),
        "teacher": digest,
        "output_order": list(teacher.output_order),
        "tokenizer": tokenizer["digest"],
        "data": prepared.digest,
        "max_length": max_length,
        "layers": list(layers),
        "dtype": params.dtype,
        "compute": params.compute,
    }
    if folds:
        identity["out_of_fold"] = folds.digest
    layout = Layout(
        layers=layers,
        hidden_size=teacher.hidden_size,
        outputs=prepared.task.num_outputs,
        dtype=params.dtype,
        shard_rows=params.shard_rows,
        out_of_fold=("train",) if folds else (),
    )
    plan = Plan(identity=identity, layout=layout, batch_tokens=params.batch_tokens)
    name = teacher.name if is_hub_id(teacher.name) else Path(teacher.name).resolve().name
    described = {
        "task": prepared.task.to_dict(),
        "teacher": {
            "name": name,
            "digest": digest,
            "output_order": list(teacher.output_order),
            "layers": teacher.layers,
            "base": record.get("base"),
            "parameters": sum(p.numel() for p in teacher.model.parameters()),
        },
        "tokenizer": tokenizer,
        "data_digest": prepared.digest,
        "max_length": max_length,
        "compute": params.compute,
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES},
    }
    return plan, described


def chosen_layers(text: str, teacher_layers: int) -> tuple[int, ...]:
    """Parse `--layers`; raises ParamsError for layers that the teacher does not have."""
    if text == "all":
        return tuple(range(1, teacher_layers + 1))
    try:
        layers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise ParamsError(f"--layers {text}: expected `all`, or a list such as 4,8.") from None
    if layers[0] < 1 or layers[-1] > teacher_layers:
        raise ParamsError(
            f"--layers {text}: the teacher has layers 1..{teacher_layers} "
            "(the embeddings are the same for every row and are not cached)."
        )
    return layers


def existing_cache(out: Path, plan: Plan, overwrite: bool) -> Manifest | None:
    """The manifest of a sound cache of the same plan; None when the cache is to be built.

    Raises:
        OutputExistsError: a cache of another plan or a damaged one, unless it may be overwritten;
            or something that is no cache, which is never replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise OutputExistsError(
            f"{out}: is there and is not a cache, so it will not be replaced; choose another --out."
        )
    problem, manifest = _compare(out, plan, thorough=overwrite)
    if problem is None or overwrite:
        return manifest if problem is None else None
    raise OutputExistsError(f"{out}: {problem}; pass --overwrite to replace it.")


def existing_part(
    out: Path, plan: Plan, described: dict[str, Any], share: Share, overwrite: bool
) -> dict[str, Any] | None:
    """The record of this part when it is there, whole; None when the part is to be built.

    One that lacks a file, or has one of another size, is built again; with `overwrite` also one
    that has other bytes.

    Raises:
        OutputExistsError: another part or something else, as `existing_cache`; also one that
            `merge` would not take beside those that are built now, of other library versions say.
    """
    found = {
        "plan": plan.to_dict(),
        "index": share.index,
        "count": share.count,
        "described": described,
    }
    if must_build(out, PART, found, overwrite=overwrite):
        return None
    content: dict[str, Any] = read_json(out / PART)
    try:
        damaged = damaged_file(out, _files_of_part(content), thorough=overwrite)
    except (KeyError, TypeError, AttributeError):  # a record that was edited
        return None
    return None if damaged else content


def _files_of_part(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Size and digest of each file that a part's record states."""
    files = dict(content["examples"])
    for of_split in content["records"].values():
        for record in of_split.values():
            files |= record["files"]
    return files


def _compare(out: Path, plan: Plan, *, thorough: bool) -> tuple[str | None, Manifest | None]:
    """What keeps a cache from being the planned one, and its manifest where that can be read.

    Sizes are always compared; digests of all files when `thorough`.
    """
    try:
        manifest = read_manifest(out)
    except CacheError as error:
        return f"is damaged or of another format ({error})", None
    same_layout = (manifest.shard_rows, manifest.batch_tokens) == (
        plan.layout.shard_rows,
        plan.batch_tokens,
    )
    if manifest.cache_id != plan.cache_id or not same_layout:
        return _difference(manifest, plan), manifest
    damaged = damaged_file(out, manifest.files, thorough=thorough)
    return (f"is damaged ({damaged})" if damaged else None), manifest


def _difference(manifest: Manifest, plan: Plan) -> str:
    """Name the first field in which an existing cache differs from the plan."""
    has = {
        "teacher": manifest.teacher["digest"],
        "tokenizer": manifest.tokenizer["digest"],
        "data": manifest.data_digest,
        "max_length": manifest.max_length,
        "layers": list(manifest.layers),
        "dtype": manifest.dtype,
        "compute": manifest.compute,
        "shard_rows": manifest.shard_rows,
        "batch_tokens": manifest.batch_tokens,
        "task": manifest.task,
        "output_order": list(manifest.teacher["output_order"]),
    }
    wants = plan.identity | {
        "shard_rows": plan.layout.shard_rows,
        "batch_tokens": plan.batch_tokens,
    }
    for field, found in has.items():
        if found != wants[field]:
            return f"holds a cache with {field} {_short(found)}, asked for {_short(wants[field])}"
    return _difference_out_of_fold(manifest, plan)


def _difference_out_of_fold(manifest: Manifest, plan: Plan) -> str:
    """The same of what alone is left: the logits by `pkd-teacher fit --folds`."""
    there = any(optional_arrays(split, manifest.arrays) for split in manifest.splits)
    asked = "out_of_fold" in plan.identity
    if there and asked:
        return "holds a cache with other out-of-fold logits than this teacher has"
    if there:
        return "holds a cache with out-of-fold logits, this teacher has none"
    if asked:
        return "holds a cache without out-of-fold logits, this teacher has them"
    return "holds a cache of another plan"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
