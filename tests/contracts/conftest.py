"""Every contract suite runs once per backend named here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azurite import Azurite, Unavailable
from tests.contracts.backends import AzureBackend, Backend, LocalBackend
from tests.moving_clock import MovingClock
from tests.standin import StandIn, Storage


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "without_pool: on Azure, tests/spark runs it on the job's script without a pool")
    config.addinivalue_line("markers", "same_code: what the job's code, the same on Azure, does: run on a laptop")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Races of processes are run on a laptop only: to a service, threads with clients of their own are the same.

    So are tests of what a features job makes that need no Spark pool around its script (two seconds and more each),
    and of what a scoring job makes of its rows: shared.jobs.score_batch, once the rows are on its machine.
    """
    twice = [
        item
        for item in items
        if _parameters(item) >= {("backend", "azure"), ("how", "processes")}
        or (("features", "azure") in _parameters(item) and item.get_closest_marker("without_pool"))
        or (("harness", "azure") in _parameters(item) and item.get_closest_marker("same_code"))
    ]
    config.hook.pytest_deselected(items=twice)
    items[:] = [item for item in items if item not in twice]
    for item in items:
        for gap in item.iter_markers("gap"):
            backend, reason = gap.args
            if backend in {value for _, value in _parameters(item)}:
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def _parameters(item: pytest.Item) -> set[tuple[str, object]]:
    known = getattr(item, "callspec", None)
    return {(name, value) for name, value in known.params.items() if isinstance(value, str)} if known else set()


@pytest.fixture(params=["local", "azure"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """The state adapters of one backend, with nothing in them."""
    return LocalBackend(tmp_path) if request.param == "local" else request.getfixturevalue("storage_backend")


@pytest.fixture
def local(tmp_path: Path) -> LocalBackend:
    """The laptop's, for what only a laptop has."""
    return LocalBackend(tmp_path)


@pytest.fixture
def storage_backend(azurite: Storage, azure: StandIn) -> AzureBackend:
    """The one of Azure, for what only it has. Azurite is called directly, everything else would be refused."""
    return AzureBackend.of(azurite)


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory, standin: StandIn) -> Iterator[Storage]:
    """The storage emulator, for a whole session."""
    made = Azurite(tmp_path_factory.mktemp("azurite"))
    try:
        storage = made.start()
    except Unavailable as error:
        pytest.skip(str(error))
    standin.certificates.trust(storage.authority)
    yield storage
    made.stop()


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
