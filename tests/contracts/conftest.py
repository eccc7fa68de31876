"""Every contract suite runs once per backend named here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.backends import BACKENDS, LocalBackend
from tests.moving_clock import MovingClock


@pytest.fixture(params=["local"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> LocalBackend:
    """The state adapters of one backend, with nothing in them."""
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> LocalBackend:
    """The laptop's, for what only a laptop has."""
    return LocalBackend(tmp_path)


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()
