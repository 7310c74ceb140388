"""pytest tests/pipeline/test_existing.py - which outputs are the same, and which are another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OutputExistsError
from pipeline.existing import must_build


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
