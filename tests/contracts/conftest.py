"""Every contract suite runs once per backend named here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.backends import BACKENDS, LocalBackend
from tests.moving_clock import MovingClock
from tests.standin import StandIn


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


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Azure ML, Event Grid and identity for a whole session; :func:`azure` leads one test to it."""
    made = StandIn(tmp_path_factory.mktemp("standin"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def azure(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in as this process's Azure. What no client of ours may do fails the test at its end."""
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    yield standin
    standin.faults.clear()
    found = [*standin.crashes, *standin.ml.violations, *(f"{host} was called" for host in standin.refused)]
    standin.crashes.clear()
    standin.ml.violations.clear()
    standin.refused.clear()
    assert not found
