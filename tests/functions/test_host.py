"""One host per home: who holds it, where it answers, and how it comes and goes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from landfall.host import HostInfo, LaptopHost, running
from shared.errors import ConfigurationError, Refused
from tests.functions.tiny_app import Seen, build


def test_a_running_host_is_known_by_its_home(tmp_path: Path, run_host: Callable[..., LaptopHost]) -> None:
    assert running(tmp_path) is None
    host = run_host()
    port = int(host.url.rpartition(":")[2])
    assert running(tmp_path) == HostInfo(os.getpid(), port, f"http://127.0.0.1:{port}")
    host.stop()
    assert running(tmp_path) is None
    assert running(tmp_path / "nowhere") is None


def test_a_second_host_on_the_same_home_is_refused_and_told_where_the_first_is(
    tmp_path: Path, host: LaptopHost, seen: Seen
) -> None:
    with pytest.raises(Refused, match=f"run by process {os.getpid()} at {host.url} already"):
        LaptopHost(build(seen), tmp_path, 0).start()
    assert httpx.get(host.url, trust_env=False).status_code == 200


def test_a_taken_port_is_named_with_who_has_it_and_what_to_do(tmp_path: Path, seen: Seen) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        host = LaptopHost(build(seen), tmp_path, port)
        with pytest.raises(ConfigurationError, match=rf"port {port} is taken by process {os.getpid()} .*Stop that"):
            host.start()
    assert running(tmp_path) is None
    host.start()
    assert running(tmp_path) is not None
    host.stop()


def test_a_host_may_be_started_again_on_the_same_port_and_app(tmp_path: Path, host: LaptopHost) -> None:
    for _ in range(2):
        host.stop()
        host.start()
        with httpx.Client(base_url=host.url, trust_env=False) as client:
            assert client.get("/api/files/x").text == "x"
    host.stop()
    host.stop()


def test_each_invocation_is_one_line_at_debug_and_no_key_is_ever_logged(
    client: httpx.Client, host: LaptopHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="landfall.host"):
        client.get("/api/locked", params={"code": host.keys.function})
        client.get("/api/broken")
    lines = [record.getMessage() for record in caplog.records if record.name == "landfall.host"]
    assert sum(line.startswith("function=http_locked outcome=succeeded ms=") for line in lines) == 1
    assert sum("function=http_broken outcome=failed" in line and "secret of the inside" in line for line in lines) == 1
    assert host.keys.function not in caplog.text
