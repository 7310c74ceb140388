"""pytest tests/pipeline/test_presets.py - every preset resolves, and says what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import ParamsError
from pipeline.layers import layer_map
from pipeline.presets import load_preset, preset_names
from pipeline.tasks import GLUE_NAMES


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("task", ["rte", "mrpc", "mnli", "stsb"])
def test_a_preset_resolves_for_its_sections(name: str, task: str) -> None:
    preset = load_preset(name)
    assert preset.description
    assert preset.source
    assert len(preset.deviations) >= 3
    for section in preset.sections:
        values, sources = params.resolve(section, {"preset": name}, task=task)
        for key, value in preset.values(section, task).items():
            assert getattr(values, key) == pytest.approx(value)
            assert sources[key] == f"preset {name}"
    for section in preset.sections.values():
        assert set(section.get("tasks") or {}) <= set(GLUE_NAMES)


def test_the_published_settings_of_pkd() -> None:
    """Winning 6-layer PKD-Skip runs of the authors' result files."""
    rte, _ = params.resolve("student", {"preset": "pkd2019"}, task="rte")
    assert (rte.learning_rate, rte.temperature, rte.alpha, rte.beta) == (1e-5, 10, 0.7, 500)
    assert rte.normalize
    mnli, _ = params.resolve("student", {"preset": "pkd2019"}, task="mnli")
    assert not mnli.normalize
    assert layer_map(rte.strategy, 12, rte.student_layers) == (2, 4, 6, 8, 10)
    grid = load_preset("pkd2019").grid
    size = 1
    for each in grid.values():
        size *= len(each)
    assert size == 108


def test_flags_beat_a_preset_and_a_preset_beats_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("student: {beta: 7, seed: 3, tasks: {rte: {alpha: 0.1}}}")
    given = {"preset": "pkd2019", "temperature": 4.0}
    values, sources = params.resolve("student", given, task="rte", path=path)
    assert (values.beta, values.alpha, values.temperature, values.seed) == (500, 0.7, 4.0, 3)
    assert sources["temperature"] == "flag"
    assert sources["seed"] == f"{path}: student"
    path.write_text("student: {preset: bert-emd}")
    assert params.resolve("student", {}, task="rte", path=path)[0].strategy == "emd"


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"Unknown preset `pkd2018`\. Did you mean `pkd2019`\?"):
        params.resolve("student", {"preset": "pkd2018"}, task="rte")
