"""pytest tests/pipeline/probe/test_layers.py"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.errors import CacheMismatchError
from pipeline.probe.layers import LayerProbe, choose_layers, probe_layers
from pipeline.store.reader import TeacherCache
from stages.cache import cli
from tests.support.synthetic import write
from tests.support.tiny import World


def probes(*scores: float) -> list[LayerProbe]:
    return [
        LayerProbe(layer=layer, held_out=score, validation=None)
        for layer, score in enumerate(scores, start=1)
    ]


def test_scores_are_those_of_a_second_probe(world: World) -> None:
    """Closed-form least squares on the labels +-1, standardised, with a little ridge."""
    cache = TeacherCache.open(world.cache)
    found = {probe.layer: probe for probe in probe_layers(cache)}
    assert list(found) == [1, 2, 3, 4]
    labels = np.array(cache.examples("train")["label"].to_pylist())
    labels_v = np.array(cache.examples("validation")["label"].to_pylist())
    for layer, probe in found.items():
        states = cache.cls("train", [layer])[:, 0].astype(np.float64)
        mean, scale = states.mean(0), states.std(0)
        design = np.c_[(states - mean) / scale, np.ones(len(states))]
        ridge = design.T @ design + 10 * np.eye(design.shape[1])
        weights = np.linalg.solve(ridge, design.T @ (2 * labels - 1))
        states_v = cache.cls("validation", [layer])[:, 0]
        predicted = np.c_[(states_v - mean) / scale, np.ones(len(states_v))] @ weights > 0
        assert probe.validation == pytest.approx((predicted == labels_v).mean(), abs=0.12)
    assert found[4].held_out > 0.8


def test_layers_are_chosen_at_equal_steps_of_what_is_known() -> None:
    rising = probes(0.5, 0.5, 0.8, 0.8, 0.95, 1.0)
    assert choose_layers(rising, 6, 1) == (3,)  # the first at 0.75
    assert choose_layers(rising, 6, 2) == (3, 5)  # 0.667 and 0.833
    assert choose_layers(rising, 6, 5) == (1, 2, 3, 4, 5)
    flat = probes(0.6, 0.6, 0.6, 0.6, 0.6, 0.6)
    assert choose_layers(flat, 6, 2) == (1, 2)
    late = probes(0.5, 0.5, 0.5, 0.5, 0.5, 1.0)
    assert choose_layers(late, 6, 2) == (4, 5)  # never the last, always different
    dipping = probes(0.5, 0.9, 0.6, 0.7, 0.8, 1.0)
    assert choose_layers(dipping, 6, 2) == (2, 3)
    with pytest.raises(CacheMismatchError, match="3 layers below the last are needed, 2 are"):
        choose_layers(probes(0.5, 0.6, 0.7), 3, 3)


def test_the_command_prints_and_draws(world: World, tmp_path: Path) -> None:
    picture = tmp_path / "out" / "probe.png"
    found = CliRunner().invoke(cli, ["probe", str(world.cache16), "--plot", str(picture)])
    assert found.exit_code == 0, found.output
    assert picture.read_bytes()[:4] == b"\x89PNG"
    lines = found.stdout.splitlines()
    assert lines[0].endswith("accuracy on the held-out fifth")
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    as_json = CliRunner().invoke(cli, ["probe", str(world.cache16), "--json"])
    assert [each["layer"] for each in json.loads(as_json.stdout)["layers"]] == [1, 2, 3, 4]


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c.zarr", rows=10)
    with pytest.raises(CacheMismatchError, match="8 labelled training rows are too few"):
        probe_layers(TeacherCache.open(tmp_path / "c.zarr"))
