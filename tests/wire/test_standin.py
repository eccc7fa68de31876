"""The stand-in is strict where the service is: what these tests see refused, no test of an adapter gets away with."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.standin import StandIn
from tests.standin.azureml import WORKSPACE
from tests.standin.identity import ARM, EVENT_GRID, ML, SYNAPSE

VERSION = "2024-01-01-preview"


@pytest.fixture
def call(azure: StandIn) -> Any:
    """Make one call with a token for an audience; returns the answer."""

    def make(method: str, url: str, *, audience: str = ARM, body: Any = None, **query: str) -> httpx.Response:
        env = azure.environment()
        headers = {"X-IDENTITY-HEADER": env["IDENTITY_HEADER"]}
        with httpx.Client() as http:
            asked = {"api-version": "2019-08-01", "resource": audience}
            token = http.get(env["IDENTITY_ENDPOINT"], params=asked, headers=headers).json()["access_token"]
            return http.request(method, url, params=query, json=body, headers={"Authorization": f"Bearer {token}"})

    return make


def arm(path: str) -> str:
    return f"https://management.azure.com{WORKSPACE}{path}"


def test_a_host_that_it_does_not_play_cannot_be_called_and_is_noted(azure: StandIn) -> None:
    with pytest.raises(httpx.ProxyError, match="403"):
        httpx.get("https://pypi.org/")
    assert azure.refused == ["pypi.org:443"]
    azure.refused.clear()


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        (arm("/jobs/a"), ML),
        ("https://churn.westeurope.inference.ml.azure.com/score", SYNAPSE),
        ("https://ws.dev.azuresynapse.net/pipelines/p", ARM),
        ("https://landfall.westeurope-1.eventgrid.azure.net/api/events", ARM),
        ("https://landfall.blob.core.windows.net/azureml/a", ARM),
    ],
)
def test_a_token_for_another_audience_is_refused(azure: StandIn, call: Any, url: str, audience: str) -> None:
    azure.ml.jobs.pop("a", None)
    azure.endpoints.all.clear()
    made: dict[str, Any] = {"location": "westeurope", "properties": {"authMode": "AADToken"}}
    call("PUT", arm("/onlineEndpoints/churn"), body=made, **{"api-version": "2022-02-01-preview"})
    method = "POST" if url.endswith(("score", "events")) else "GET"
    assert call(method, url, audience=audience, **{"api-version": VERSION}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/jobs/a?api-version=2019-01-01", None, 400),
        ("PUT", "/computes/c", {"properties": {"properties": {"computeType": "AmlCompute"}}}, 400),
        ("PUT", "/jobs/new", {"properties": {"jobType": "Command", "computeId": "/computes/nowhere"}}, 400),
        ("PUT", "/onlineEndpoints/ab", {"properties": {"authMode": "AADToken"}}, 400),
        ("PUT", "/onlineEndpoints/" + "a" * 33, {"properties": {"authMode": "AADToken"}}, 400),
        ("PUT", "/onlineEndpoints/abc", {"properties": {"authMode": "AADToken", "traffic": {"x": 60}}}, 400),
        ("PUT", "/models/m/versions/1", {"properties": {"modelUri": "azureml://jobs/none/outputs/model"}}, 400),
    ],
    ids=["api-version", "wrapped-twice", "compute", "short-name", "long-name", "traffic", "output"],
)
def test_what_the_service_refuses_is_refused(call: Any, method: str, path: str, body: Any, status: int) -> None:
    path, _, version = path.partition("?api-version=")
    answer = call(method, arm(path), body=body, **{"api-version": version or VERSION})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_a_version_cannot_be_changed_but_its_tags_can(call: Any) -> None:
    place, version = "azureml://datastores/d/paths/", {"api-version": VERSION}
    url = arm("/models/fixed/versions/1")
    assert call("PUT", url, body={"properties": {"modelUri": place + "a"}}, **version).status_code == 201
    assert call("PUT", url, body={"properties": {"modelUri": place + "b"}}, **version).status_code == 400
    tagged = {"properties": {"modelUri": place + "a", "tags": {"x": "1"}}}
    assert call("PUT", url, body=tagged, **version).status_code == 200
    assert call("GET", url, **version).json()["properties"]["tags"] == {"x": "1"}


def test_a_deployment_with_traffic_cannot_be_deleted(azure: StandIn, call: Any) -> None:
    version = {"api-version": VERSION}
    azure.endpoints.all.clear()
    azure.ml.assets["models", "m", "7"] = {"modelUri": "azureml://datastores/d/paths/a"}
    endpoint: dict[str, Any] = {"properties": {"authMode": "AADToken"}}
    assert call("PUT", arm("/onlineEndpoints/churn"), body=endpoint, **version).status_code == 201
    body = {"properties": {"model": f"{WORKSPACE}/models/m/versions/7"}}
    prepare, azure.endpoints.prepare = azure.endpoints.prepare, lambda endpoint, deployment: None
    try:
        url = arm("/onlineEndpoints/churn/deployments/blue")
        assert call("PUT", url, body=body, **version).status_code == 201
        endpoint["properties"]["traffic"] = {"blue": 100}
        assert call("PUT", arm("/onlineEndpoints/churn"), body=endpoint, **version).status_code == 200
        assert call("DELETE", url, **version).status_code == 409
    finally:
        azure.endpoints.prepare = prepare


SIZES = {"driverMemory": "28g", "executorMemory": "28g"}
LIVY = "https://ws.dev.azuresynapse.net/livyApi/versions/2019-11-01-preview/sparkPools"


def test_a_spark_batch_lives_as_it_is_told(azure: StandIn, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure.synapse, "started", lambda batch: None)
    body = {"name": "a", "file": "abfss://lake@landfall.dfs.core.windows.net/a.py", **SIZES}
    made = call("POST", f"{LIVY}/spark/batches", audience=SYNAPSE, body=body).json()
    assert (made["state"], made["result"]) == ("not_started", "Uncertain")
    azure.synapse.move(made["id"], "dead", error="no driver")
    seen = call("GET", f"{LIVY}/spark/batches/{made['id']}", audience=SYNAPSE).json()
    assert (seen["result"], seen["errorInfo"][0]["message"]) == ("Failed", "no driver")
    assert call("POST", f"{LIVY}/none/batches", audience=SYNAPSE, body={}).status_code == 404
    for wrong in ({"name": "a"}, {**body, "file": "a.py"}, {**body, "args": ["x" * 100_000]}):
        assert call("POST", f"{LIVY}/spark/batches", audience=SYNAPSE, body=wrong).status_code == 400


def test_an_artifact_that_is_wrapped_twice_is_refused(call: Any) -> None:
    url, version = "https://ws.dev.azuresynapse.net/linkedservices/ml", {"api-version": "2020-12-01"}
    inner = {"type": "AzureMLService", "typeProperties": {}}
    wrapped = {"properties": {"properties": inner}}
    assert call("PUT", url, audience=SYNAPSE, body=wrapped, **version).status_code == 400
    assert call("PUT", url, audience=SYNAPSE, body={"properties": inner}, **version).status_code == 202
    assert call("GET", url, audience=SYNAPSE, **version).json()["properties"] == inner


def test_a_topic_takes_batches_of_cloud_events_only(call: Any) -> None:
    url = "https://landfall.westeurope-1.eventgrid.azure.net/api/events"
    answer = call("POST", url, audience=EVENT_GRID, body=[{"id": "1"}], **{"api-version": "2018-01-01"})
    assert answer.status_code == 400
