"""What a look of reconcile asks of lake and ledger, on the wire."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import requests

from shared import rolling_look
from shared.adapters.azure import lake as blob_lake
from shared.domain.ledger import Landed
from tests.contracts.backends import AzureBackend
from tests.contracts.test_run_ledger import NOW


def test_a_look_makes_as_many_calls_to_azure_for_a_hundred_files_as_for_twenty(
    storage_backend: AzureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_lake, "PAGE", 5)
    monkeypatch.setattr(rolling_look, "PAGES", 2)
    calls: list[str] = []
    send = requests.Session.send

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        calls.append(f"{request.method} {request.url}")
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", counted)
    made = {}
    for files in (20, 100):
        backend = storage_backend.empty()
        lake, ledger = backend.lake(), backend.ledger()
        loop: Any = SimpleNamespace(ports=SimpleNamespace(lake=lake, ledger=ledger))
        landing = SimpleNamespace(name="churn", landing=SimpleNamespace(path="landing/churn"))
        folder: Any = SimpleNamespace(pipeline=landing)
        for number in range(files):
            info = lake.write(f"landing/churn/{number:03}.csv", b"x")
            entry = Landed(pipeline="churn", path=info.path, file_etag=info.etag, batch="b1", at=NOW)
            if number != 17:
                ledger.insert(entry)
        assert list(rolling_look.unknown_files(loop, folder)) == []
        calls.clear()
        assert [info.path for info in rolling_look.unknown_files(loop, folder)] == ["landing/churn/017.csv"]
        made[files] = len(calls)
    assert made[20] == made[100] <= 8, calls
