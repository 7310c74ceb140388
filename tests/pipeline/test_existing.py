"""pytest tests/pipeline/test_existing.py - which outputs are the same, and which are another's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.base import build_base
from pipeline.errors import OutputExistsError
from pipeline.existing import damaged_file, must_build
from pipeline.params import BaseParams


def made(folder: Path, **params: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"identity": {"params": params}, "score": 0.9}))
    return folder


def asked(folder: Path, **params: Any) -> bool:
    return must_build(folder, "run.json", {"identity": {"params": params}}, overwrite=False)


def test_the_same_parameters_are_not_built_again(tmp_path: Path) -> None:
    assert not asked(made(tmp_path, epochs=3, dropout=None), epochs=3, dropout=None)


@pytest.mark.parametrize("off", [None, 0, 0.0, False, "none", "", [], {}])
def test_a_parameter_that_came_later_changes_nothing_while_it_asks_for_nothing(
    tmp_path: Path, off: Any
) -> None:
    assert not asked(made(tmp_path, epochs=3), epochs=3, folds=off)
    assert not asked(made(tmp_path, epochs=3, folds=off), epochs=3)


@pytest.mark.parametrize("value", [5, True, "sps", [1]])
def test_a_parameter_that_came_later_and_is_used_is_another_run(tmp_path: Path, value: Any) -> None:
    with pytest.raises(OutputExistsError, match=r"params\.folds: null there"):
        asked(made(tmp_path, epochs=3), epochs=3, folds=value)
    with pytest.raises(OutputExistsError, match=r"params\.folds"):
        asked(made(tmp_path, epochs=3, folds=value), epochs=3)


def test_a_parameter_that_is_named_counts_with_its_value(tmp_path: Path) -> None:
    # null is the model's own dropout, 0 is none
    with pytest.raises(OutputExistsError, match=r"params\.dropout: null there, 0 now"):
        asked(made(tmp_path, epochs=3, dropout=None), epochs=3, dropout=0)


def test_a_file_that_is_gone_cut_or_changed_is_named(tmp_path: Path) -> None:
    files = {}
    for name in ("a", "b/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
        files[name] = {"size": 2, "sha256": hashlib.sha256(b"12").hexdigest()}
    assert damaged_file(tmp_path, files, thorough=True) is None
    (tmp_path / "b/c").write_bytes(b"13")
    assert damaged_file(tmp_path, files, thorough=False) is None
    assert damaged_file(tmp_path, files, thorough=True) == "b/c"
    (tmp_path / "b/c").write_bytes(b"1")
    assert damaged_file(tmp_path, files, thorough=False) == "b/c"
    (tmp_path / "a").unlink()
    assert damaged_file(tmp_path, files, thorough=False) == "a"


def test_a_base_model_whose_weights_are_gone_is_made_again(tmp_path: Path) -> None:
    params = BaseParams(layers=2, hidden_size=8, heads=2, steps=2, batch_size=2)
    build_base(params, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    assert build_base(params, tmp_path / "base")[1]
    assert (tmp_path / "base" / "model.safetensors").is_file()
    assert not build_base(params, tmp_path / "base")[1]
