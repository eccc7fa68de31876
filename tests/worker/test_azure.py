"""The whole loop as it is deployed: Microsoft's worker, the Azure adapters, Azurite and the stand-in of all else.

Each test goes on where the one before it stopped.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from shared.settings import ROOT
from tests.standin import StandIn, Storage
from tests.standin.azureml import GROUP, NAME, SUBSCRIPTION
from tests.standin.event_grid import TOPIC
from tests.worker.events import subscribed
from tests.worker.functions_host import FunctionsHost, deployed

T = TypeVar("T")

PIPELINE = "customer-churn"
LAKE = "lake"
CUSTOMERS = list(csv.DictReader((ROOT / "samples" / "telco_churn.csv").open(encoding="utf-8")))
FIRST = 500
"""With so few the first model is clearly worse than the one of all customers."""
LIMITS = {"p95_ms: 200": "p95_ms: 20000", "approval: automatic": "approval: automatic\n  max_latency_ms: 20000"}
"""This machine does the work of several: the pipeline's limits of latency are not what is tested here."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, azurite: Storage) -> Iterator[StandIn]:
    """Azure: Azure ML, Synapse and Event Grid with real work behind them, and the storage of Azurite."""
    standin = StandIn(tmp_path_factory.mktemp("cloud"), azurite)
    standin.start()
    standin.blobs.ensure(LAKE)
    yield standin
    standin.stop()


@pytest.fixture(scope="module")
def host(
    cloud: StandIn, python: Path, azurite: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FunctionsHost]:
    """The deployed app at work, with the subscriptions to its events."""
    folder = tmp_path_factory.mktemp("deployed")
    app = deployed(folder / "app")
    settings = app / "pipelines" / PIPELINE / "pipeline.yaml"
    text = settings.read_text()
    for limit, instead in LIMITS.items():
        assert limit in text
        text = text.replace(limit, instead)
    settings.write_text(text)
    environment = {
        **os.environ,
        **cloud.environment(),
        "AzureWebJobsStorage__accountName": azurite.account,
        "LANDFALL_BACKEND": "azure",
        "LANDFALL_LAKE_ACCOUNT": azurite.account,
        "LANDFALL_LAKE_CONTAINER": LAKE,
        "LANDFALL_SUBSCRIPTION": SUBSCRIPTION,
        "LANDFALL_RESOURCE_GROUP": GROUP,
        "LANDFALL_WORKSPACE": NAME,
        "LANDFALL_SYNAPSE": "landfall",
        "LANDFALL_SPARK_POOL": "spark",
        "LANDFALL_EVENTS_TOPIC": TOPIC,
        "LANDFALL_PACE": "600",
    }
    made = FunctionsHost(app, python, environment, azurite, folder)
    with made.running(), subscribed(cloud, LAKE, made.deliver):
        yield made


def land(cloud: StandIn, name: str, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    cloud.blobs.write(LAKE, f"landing/{PIPELINE}/{name}.csv", text.getvalue().encode())


def eventually(host: FunctionsHost, look: Callable[[], T], seconds: float = 150) -> T:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, host.call("GET", f"pipelines/{PIPELINE}/runs").body.decode()
        assert host.failures == []
        time.sleep(0.3)
    return found


def status(host: FunctionsHost) -> dict[str, Any]:
    return next(p for p in host.call("GET", "status").json()["pipelines"] if p["name"] == PIPELINE)


def ended(host: FunctionsHost, run: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = host.call("GET", f"pipelines/{PIPELINE}/runs/{run}")
        found = answer.json() if answer.status == 200 else None
        return found if found and found["status"] not in ("running", "waiting") else None

    return eventually(host, look)


def raw(row: dict[str, str]) -> dict[str, Any]:
    """A row as a caller sends it: numbers as numbers, without key and label."""
    return {
        name: (float(value) if value.replace(".", "", 1).isdigit() else value) if value else None
        for name, value in row.items()
        if name not in ("customer_id", "churn")
    }


def test_landed_data_become_a_live_model(host: FunctionsHost, cloud: StandIn) -> None:
    land(cloud, "january", CUSTOMERS[:FIRST])
    run = ended(host, f"{PIPELINE}-b000001")
    assert run["status"] == "succeeded", run
    assert status(host)["champion"]["version"] == "1"
    assert status(host)["traffic"] == {"v1": 100}
    answer = host.call("POST", f"pipelines/{PIPELINE}/score", {"dataframe_records": [raw(CUSTOMERS[0])]})
    assert answer.status == 200, answer.body
    assert answer.headers["x-landfall-model-version"] == "1"
    assert answer.json()["predictions"][0] in ("Yes", "No")


def test_more_data_make_a_better_challenger_that_takes_over_in_steps(host: FunctionsHost, cloud: StandIn) -> None:
    land(cloud, "february", CUSTOMERS[FIRST:])
    run = ended(host, f"{PIPELINE}-b000002")
    assert (run["version"], run["status"]) == ("2", "succeeded"), run
    assert run["model"]["verdict"]["summary"].startswith("promote version 2 over version 1")
    assert status(host)["champion"]["version"] == "2"
    assert status(host)["traffic"]["v2"] == 100
    told = {(event["type"], event["subject"]) for event in cloud.events.received}
    assert ("Landfall.RunEnded", run["id"]) in told


def test_drifting_traffic_starts_a_retraining(host: FunctionsHost) -> None:
    # From the same rows by the same query the same model would come, and nothing would begin.
    query = host.app / "pipelines" / PIPELINE / "features.sql"
    query.write_text(query.read_text() + "-- to be prepared anew\n")
    segment = [c for c in CUSTOMERS if c["internet_service"] == "Fiber optic" and c["contract"] == "Month-to-month"]
    for start in range(0, 1000, 100):
        rows = [raw(row) for row in segment[start : start + 100]]
        assert host.call("POST", f"pipelines/{PIPELINE}/score", {"dataframe_records": rows}).status == 200

    def drifts() -> dict[str, Any] | None:
        host.call("POST", f"pipelines/{PIPELINE}/drift", {})
        runs = host.call("GET", f"pipelines/{PIPELINE}/runs").json()
        return next((run for run in runs if run["cause"] == "drift"), None)

    run = ended(host, eventually(host, drifts)["id"])
    assert run["status"] in ("kept", "succeeded"), run
    assert status(host)["drift"]["status"] == "drift"


def test_one_request_rolls_back(host: FunctionsHost) -> None:
    before = status(host)["champion"]["version"]
    assert before != "1"
    asked = host.call("POST", f"pipelines/{PIPELINE}/rollback", {"request": "r1", "by": "ada", "reason": "complaints"})
    assert asked.status == 202
    eventually(host, lambda: status(host)["champion"]["version"] != before)
    after = status(host)["champion"]["version"]
    eventually(host, lambda: status(host)["traffic"].get(f"v{after}") == 100)


def test_nothing_was_done_twice_and_nobody_else_was_called(host: FunctionsHost, cloud: StandIn) -> None:
    runs = host.call("GET", f"pipelines/{PIPELINE}/runs").json()
    assert len(runs) == len({run["id"] for run in runs}) == 3
    jobs = [call.path for call in cloud.made(r"PUT management.azure.com.*/jobs/[^/]+$")]
    assert jobs and sorted(jobs) == sorted(set(jobs))
    assert len(cloud.synapse.batches) == len({batch.body["name"] for batch in cloud.synapse.batches})
    assert (cloud.refused, cloud.crashes, host.failures, host.poisoned()) == ([], [], [], [])
