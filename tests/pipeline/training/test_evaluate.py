"""pytest tests/pipeline/training/test_evaluate.py"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from pipeline.models.load import load_classifier
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import load_rows
from pipeline.tasks import BUILT_IN
from pipeline.training.evaluate import evaluate, predict, score_rows
from tests.support.tiny import World

CPU = torch.device("cpu")


def test_predictions_are_in_the_order_of_the_rows(world: World) -> None:
    """The teacher's own logits stand in the cache, computed in other batches."""
    cache = TeacherCache.open(world.cache)
    rows = load_rows(cache, "train", CPU)
    model = load_classifier(str(world.teacher)).train()
    counted: list[int] = []
    found = predict(model, rows, 7, counted.append)
    np.testing.assert_allclose(found, cache.logits("train"), atol=2e-6)
    assert model.training  # as it was
    assert sum(counted) == 150


def test_scores_count_labelled_rows_alone(world: World) -> None:
    cache = TeacherCache.open(world.cache)
    rows = load_rows(cache, "validation", CPU)
    logits = cache.logits("validation")
    whole = score_rows(BUILT_IN["rte"], logits, rows)
    assert whole == cache.manifest.teacher["scores"]["validation"]
    labels = rows.labels_N.clone()
    wrong = torch.from_numpy(logits.argmax(-1)) != labels
    labels[wrong] = -100
    assert score_rows(BUILT_IN["rte"], logits, dataclasses.replace(rows, labels_N=labels)) == {
        "accuracy": 1.0
    }
    assert score_rows(BUILT_IN["rte"], cache.logits("test"), load_rows(cache, "test", CPU)) == {}
    model = load_classifier(str(world.teacher))
    assert evaluate(model, BUILT_IN["rte"], {"validation": rows}, 16) == {"validation": whole}
