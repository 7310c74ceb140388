"""pytest tests/pipeline/test_presets.py - every preset resolves, and says what differs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.layers import layer_map
from pipeline.models.sharing import passes
from pipeline.params import StudentParams
from pipeline.presets import load_preset, preset_names
from pipeline.resolve import resolve
from pipeline.student.ptp import parse_thresholds
from pipeline.tasks import GLUE_NAMES
from tests.support.runs import strategy_for

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("task", ["rte", "mrpc", "mnli", "stsb"])
def test_a_preset_resolves_for_its_sections(name: str, task: str) -> None:
    preset = load_preset(name)
    assert preset.description
    assert preset.source
    assert len(preset.deviations) >= 3
    for section in preset.sections:
        values, sources = resolve(section, {"preset": name}, task=task)
        for key, value in preset.values(section, task).items():
            assert getattr(values, key) == pytest.approx(value)
            assert sources[key] == f"preset {name}"
    for section in preset.sections.values():
        assert set(section.get("tasks") or {}) <= set(GLUE_NAMES)


def test_the_published_settings_of_pkd() -> None:
    """Winning 6-layer PKD-Skip runs of the authors' result files."""
    rte, _ = resolve("student", {"preset": "pkd2019"}, task="rte")
    assert (rte.learning_rate, rte.temperature, rte.alpha, rte.beta) == (1e-5, 10, 0.7, 500)
    assert rte.normalize
    mnli, _ = resolve("student", {"preset": "pkd2019"}, task="mnli")
    assert not mnli.normalize
    assert layer_map(rte.strategy, 12, rte.student_layers) == (2, 4, 6, 8, 10)
    grid = load_preset("pkd2019").grid
    size = 1
    for each in grid.values():
        size *= len(each)
    assert size == 108


def test_the_settings_of_bert_emd() -> None:
    """Of the authors' README, for 4 layers."""
    mnli, _ = resolve("student", {"preset": "bert-emd"}, task="mnli")
    assert (mnli.strategy, mnli.student_layers, mnli.emd_weights) == ("emd", 4, "l1")
    assert (mnli.alpha, mnli.beta, mnli.temperature) == (1.0, 0.005, 1)
    assert (mnli.epochs, mnli.learning_rate) == (10, 5e-5)
    cola, _ = resolve("student", {"preset": "bert-emd"}, task="cola")
    assert (cola.beta, cola.learning_rate) == (0.001, 2e-5)


PEAKD = {
    "rte": (0.8, 0.6), "mrpc": (0.95, 0.75), "sst2": (0.98, 0.8), "qnli": (0.98, 0.7),
    "cola": (0.95, 0.7), "mnli": None,
}  # fmt: skip


@pytest.mark.parametrize(("task", "thresholds"), PEAKD.items())
def test_the_settings_of_pea_kd(task: str, thresholds: tuple[float, float] | None) -> None:
    """Of the authors' code; the median where it names no thresholds."""
    values, _ = resolve("student", {"preset": "peakd"}, task=task)
    assert parse_thresholds(values.ptp_thresholds) == thresholds
    assert (values.share, values.pretrain, values.pretrain_epochs) == ("sps", "ptp", 2)
    assert (values.batch_size, values.epochs, values.learning_rate) == (64, 6, 2e-5)
    assert (values.temperature, values.alpha, values.beta) == (10, 0.7, 100)
    assert (values.reduction, values.normalize) == ("pkd2019", True)
    depth = len(passes(values.student_layers, values.share))
    strategy = strategy_for(values, teacher_layers=12, student_layers=depth)
    assert strategy.pairs == ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10))


def test_the_help_and_the_documents_name_every_preset() -> None:
    (text,) = (each.metadata["help"] for each in fields(StudentParams) if each.name == "preset")
    for name in preset_names():
        assert name in text
        assert f"--preset {name}" in (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert "--preset pkd2019|bert-emd|peakd" in (ROOT / "README.md").read_text("utf-8")


def test_flags_beat_a_preset_and_a_preset_beats_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("student: {beta: 7, seed: 3, tasks: {rte: {alpha: 0.1}}}")
    given = {"preset": "pkd2019", "temperature": 4.0}
    values, sources = resolve("student", given, task="rte", path=path)
    assert (values.beta, values.alpha, values.temperature, values.seed) == (500, 0.7, 4.0, 3)
    assert sources["temperature"] == "flag"
    assert sources["seed"] == f"{path}: student"
    path.write_text("student: {preset: bert-emd}")
    assert resolve("student", {}, task="rte", path=path)[0].strategy == "emd"


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ParamsError, match=r"Unknown preset `pkd2018`\. Did you mean `pkd2019`\?"):
        resolve("student", {"preset": "pkd2018"}, task="rte")
