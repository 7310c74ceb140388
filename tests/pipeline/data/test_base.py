"""pytest tests/pipeline/data/test_base.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.data.base import build_base
from pipeline.demo.pretrain import PretrainSettings
from pipeline.errors import OutputExistsError, ParamsError
from pipeline.params import BaseParams

TINY = BaseParams(layers=2, hidden_size=8, heads=2, steps=5, batch_size=3)


def test_parameters_and_settings_agree() -> None:
    assert asdict(BaseParams()) == asdict(PretrainSettings())


def test_builds_once_and_tells_of_its_steps(tmp_path: Path) -> None:
    told = []

    def tick(what: str, done: int, total: int, **figures: float) -> None:
        told.append((what, done, total, sorted(figures)))

    record, written = build_base(TINY, tmp_path / "base", tick=tick)
    assert written
    assert told == [("pretraining", step, 5, ["loss"]) for step in range(1, 6)]
    assert record["settings"] == asdict(TINY)
    assert {"config.json", "base.json", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "base").iterdir()
    }
    assert build_base(TINY, tmp_path / "base") == (record, False)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    build_base(TINY, tmp_path / "base")
    other = BaseParams(**{**asdict(TINY), "seed": 1})
    with pytest.raises(OutputExistsError, match=r"settings\.seed: 0 there, 1 now"):
        build_base(other, tmp_path / "base")
    assert build_base(other, tmp_path / "base", overwrite=True)[1]


def test_sizes_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="--hidden-size 10 is no multiple of --heads 4"):
        build_base(BaseParams(hidden_size=10), tmp_path / "base")
