"""A running host with the tiny app, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from landfall.host import LaptopHost
from tests.functions.tiny_app import Seen, build


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def run_host(tmp_path: Path, seen: Seen) -> Iterator[Callable[..., LaptopHost]]:
    """Starts hosts of the tiny app on ``tmp_path``, and stops those that still run."""
    hosts: list[LaptopHost] = []

    def run(timer: str = "0 0 0 1 1 *", **options: Any) -> LaptopHost:
        host = LaptopHost(build(seen, timer=timer), tmp_path, 0, **options)
        host.start()
        hosts.append(host)
        return host

    yield run
    for host in hosts:
        host.stop()


@pytest.fixture
def host(run_host: Callable[..., LaptopHost]) -> LaptopHost:
    return run_host()


@pytest.fixture
def client(host: LaptopHost) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=host.url, trust_env=False) as client:
        yield client
