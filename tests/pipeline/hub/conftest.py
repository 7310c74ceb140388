"""A stand-in for the Hub, one for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hub import LocalHub, local_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with local_hub(monkeypatch) as found:
        yield found
