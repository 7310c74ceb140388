"""Running the teacher again over sampled rows of a finished cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.batches import Rows
from pipeline.caching.exactness import measure_errors, sample_rows, summarize
from pipeline.devices import pick_device
from pipeline.errors import CacheMismatchError
from pipeline.models.identity import identify_model
from pipeline.store.reader import TeacherCache
from pipeline.teacher.check import order_of
from pipeline.teacher.forward import load_teacher, run_rows


def rerun(path: Path | str, teacher_name: str, rows: int, device_name: str) -> dict[str, Any]:
    """Compare stored rows with a float32 forward of the teacher that the manifest names.

    Args:
        path: a finished cache.
        teacher_name: folder or hub id.
        rows: per split, evenly spaced.
        device_name: see `pick_device`.

    Returns:
        See `pipeline.caching.exactness.summarize`.

    Raises:
        CacheMismatchError: another teacher than the cache's.
    """
    cache = TeacherCache.open(path)
    manifest = cache.manifest
    device = pick_device(device_name)
    order = order_of(manifest.teacher)
    teacher = load_teacher(teacher_name, device=device, compute="float32", output_order=order)
    digest = identify_model(teacher.model)
    if digest != manifest.teacher["digest"]:
        raise CacheMismatchError(
            f"{teacher_name}: digest {digest[:12]}; the cache was built with "
            f"{manifest.teacher['name']}, {manifest.teacher['digest'][:12]}."
        )
    found = []
    for split, info in manifest.splits.items():
        chosen = sample_rows(info.rows, rows)
        tokens = Rows.from_examples(cache.examples(split), manifest.tokenizer["pad_id"])
        fresh = run_rows(teacher, tokens, chosen, manifest.layers, manifest.batch_tokens)
        stored = cache.logits(split)[chosen], cache.cls(split, manifest.layers)[chosen]
        found.append(measure_errors(*fresh, *stored))
    return summarize(found, manifest.layers)
