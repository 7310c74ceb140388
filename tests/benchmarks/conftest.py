"""Fixtures of the tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.results.plan import Experiment, Plan
from tests.benchmarks.made_up import make_plan


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(tmp_path)


@pytest.fixture
def small(plan: Plan) -> Experiment:
    return plan.experiments[0]
