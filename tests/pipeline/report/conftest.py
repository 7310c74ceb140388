"""Fixtures of the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.report.shelf import Shelf, build_prototype, copy_of


@pytest.fixture(scope="session")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Made once; tests work on copies."""
    return build_prototype(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def shelf(prototype: Shelf, tmp_path: Path) -> Shelf:
    """A teacher, its cache and its metrics; students are added by the test."""
    return copy_of(prototype, tmp_path / "data")
