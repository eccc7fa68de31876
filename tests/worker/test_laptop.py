"""The app on a laptop under a Functions host (func start) in place of Landfall's own: one storage queue for all."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.adapters.local.lake import FolderLake
from shared.adapters.local.run_ledger import SqliteLedger
from shared.domain.ledger import Batch, Claim, Decision, Run
from shared.domain.signals import BatchDue
from shared.settings import ROOT
from tests.standin import Storage
from tests.worker.events import blob_created
from tests.worker.functions_host import FunctionsHost


@pytest.fixture
def host(python: Path, azurite: Storage, tmp_path: Path) -> FunctionsHost:
    """The project's own folder with the settings of local.settings.sample.json, at a quick pace."""
    authority = tmp_path / "storage.pem"
    authority.write_bytes(azurite.authority)
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": str(authority),
        "AzureWebJobsStorage": (
            f"DefaultEndpointsProtocol=https;AccountName={azurite.account};AccountKey={azurite.key};"
            f"QueueEndpoint=https://127.0.0.1:{azurite.queue}/{azurite.account};"
        ),
        "LANDFALL_BACKEND": "local",
        "LANDFALL_QUEUE": "storage",
        "LANDFALL_HOME": str(tmp_path / "home"),
        "LANDFALL_PACE": "600",
    }
    host = FunctionsHost(ROOT, python, environment, azurite, tmp_path)
    host.forget()
    return host


def test_every_function_is_indexed_with_its_trigger(host: FunctionsHost) -> None:
    with host.running():
        triggers = {
            name: next(b["type"] for b in bindings if b["type"].endswith("Trigger"))
            for name, bindings in host.functions.items()
        }
    files = {path.stem for path in (ROOT / "functions").glob("[a-z]*.py")}
    assert set(triggers) == files
    kinds = {"event": "eventGridTrigger", "http": "httpTrigger", "queue": "queueTrigger", "timer": "timerTrigger"}
    assert triggers == {name: kinds[name.partition("_")[0]] for name in files}


def test_signals_of_events_and_of_reactions_go_through_one_storage_queue(host: FunctionsHost, tmp_path: Path) -> None:
    home = tmp_path / "home"
    lake, ledger = FolderLake(home / "lake", "landfall", "lake"), SqliteLedger(home / "ledger.db")
    info = lake.write("landing/customer-churn/day 1.csv", b"customer_id\nc1\n")
    with host.running():
        host.deliver(blob_created(lake.account, lake.container, info.path, info.etag, info.size))
        run = None
        end = time.monotonic() + 60
        while run is None and time.monotonic() < end:
            run = next(ledger.list(Run, "customer-churn"), None)
            time.sleep(0.1)

    assert run is not None, list(ledger.list(Claim, ""))
    batch = ledger.read(Batch, "customer-churn", run.batches[0])
    assert batch is not None and [file.path for file in batch.files] == [info.path]
    assert not (home / "queue.db").exists()
    assert host.failures == []


def test_an_operator_asks_over_http(host: FunctionsHost) -> None:
    with host.running():
        answer = host.call("GET", "status")
        missing = host.call("GET", "pipelines/customer-churn/runs/none")
    assert answer.status == 200
    assert {pipeline["name"] for pipeline in answer.json()["pipelines"]} == {"bank-customers", "customer-churn"}
    assert missing.status == 404


def test_a_message_that_keeps_failing_is_given_up_with_its_error(host: FunctionsHost, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "home" / "ledger.db")
    signal = BatchDue(pipeline="customer-churn", batch="b000009", due=datetime(2026, 1, 1, tzinfo=UTC))
    with host.running():
        host.send(signal.to_message())
        end = time.monotonic() + 60
        given_up: list[Decision] = []
        while not given_up and time.monotonic() < end:
            given_up = [d for d in ledger.list(Decision, "customer-churn") if d.outcome == "failed"]
            time.sleep(0.1)
    assert "b000009 of customer-churn is not in the ledger yet" in given_up[0].reason
    claim = ledger.read(Claim, signal.claim_key, "claim")
    assert claim is not None and claim.attempts == 5
    assert sum(text.startswith("queue_signals") for text in host.failures) == 5
