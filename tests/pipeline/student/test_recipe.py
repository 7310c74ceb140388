"""pytest tests/pipeline/student/test_recipe.py - what is refused at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import CacheMismatchError
from pipeline.params import StudentParams
from pipeline.store.manifest import read_manifest
from pipeline.student.recipe import settle
from tests.support.tiny import World


def test_annealing_ends_with_labels_and_so_needs_some(world: World) -> None:
    manifest = read_manifest(world.cache16)
    train = replace(manifest.splits["train"], labelled_rows=0)
    unlabelled = replace(manifest, splits={**manifest.splits, "train": train})
    params = StudentParams(
        strategy="kd", student_layers=2, init=str(world.encoder), kd_loss="annealed"
    )
    with pytest.raises(CacheMismatchError, match="c: has no labelled training rows; --kd-loss ann"):
        settle(unlabelled, params, "c")
    assert settle(manifest, params, "c")
    assert settle(unlabelled, replace(params, kd_loss="mse"), "c")
    assert settle(unlabelled, replace(params, strategy="skip", alpha=0.0), "c")
