"""The stand-in of a subscription is strict where Azure is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.setup.conftest import APP, APP_ID
from tests.standin.azureml import OPERATIONS
from tests.standin.identity import ARM, ML, SYNAPSE
from tests.standin.resource_manager import AUTHORIZATION, EVENT_GRID, HOME, STORAGE, SUB
from tests.standin.resource_manager import SYNAPSE as SYNAPSE_ARM
from tests.standin.subscription import Subscription

TOPIC = f"{HOME}/Microsoft.EventGrid/systemTopics/lake-events"
POOL = f"{HOME}/Microsoft.Synapse/workspaces/landfall-synapse/bigDataPools/other"
LAKE = f"{HOME}/Microsoft.Storage/storageAccounts/landfall"
ROLE = f"{LAKE}/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111"
READER = f"{SUB}/providers/Microsoft.Authorization/roleDefinitions/2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
LIVY = "https://landfall-synapse.dev.azuresynapse.net/livyApi/versions/2019-11-01-preview/sparkPools/spark/batches"


@pytest.fixture
def call(azure: Subscription) -> Any:
    """Make one call with a token for an audience; returns its status."""

    def make(method: str, url: str, version: str = "", body: Any = None, audience: str = ARM) -> int:
        env = azure.environment()
        with httpx.Client() as http:
            asked = {"api-version": "2019-08-01", "resource": audience}
            headers = {"X-IDENTITY-HEADER": env["IDENTITY_HEADER"]}
            token = http.get(env["IDENTITY_ENDPOINT"], params=asked, headers=headers).json()["access_token"]
            url = url if url.startswith("https://") else f"https://management.azure.com{url}"
            bearer = {"Authorization": f"Bearer {token}"}
            return http.request(method, url, params={"api-version": version}, json=body, headers=bearer).status_code

    return make


def subscribed(**changed: Any) -> dict[str, Any]:
    to = {"endpointType": "AzureFunction", "properties": {"resourceId": f"{APP}/functions/event_storage"}}
    return {"properties": {"destination": to, "eventDeliverySchema": "EventGridSchema", **changed}}


@pytest.fixture
def topic(azure: Subscription) -> str:
    kind = "Microsoft.Storage.StorageAccounts"
    return azure.arm.put(TOPIC, {"source": LAKE, "topicType": kind}, identity={"type": "SystemAssigned"})


@pytest.mark.parametrize("path", [LAKE, POOL, TOPIC, ROLE, f"{OPERATIONS}/usages"])
def test_an_api_version_that_is_not_known_and_another_audience_are_refused(call: Any, path: str) -> None:
    assert call("GET", path, "2015-01-01") == 400
    version = {"EventGrid": EVENT_GRID, "Synapse": SYNAPSE_ARM, "Authorization": AUTHORIZATION, "Storage": STORAGE}
    known = next((v for name, v in version.items() if f"Microsoft.{name}" in path.rpartition("/providers/")[2]), "")
    assert call("GET", path, known or "2024-10-01-preview", audience=ML) == 401


@pytest.mark.parametrize(
    "body",
    [
        subscribed(eventDeliverySchema="CustomInputSchema"),
        subscribed(deadLetterPolicy={}),
        subscribed(retryPolicy={"maxDeliveryAttempts": 31}),
        subscribed(filter={"includedEventTypes": ["Microsoft.MachineLearningServices.RunCompleted"]}),
        subscribed(filter={"advancedFilters": [{"operatorType": "Equals", "key": "data.api", "values": ["a"]}]}),
        subscribed(destination={"endpointType": "AzureFunction", "properties": {"resourceId": f"{APP}/functions/no"}}),
        subscribed(
            deadLetterWithResourceIdentity={
                "identity": {"type": "SystemAssigned"},
                "deadLetterDestination": {"properties": {"resourceId": LAKE, "blobContainerName": "nowhere"}},
            }
        ),
        {"properties": {"properties": subscribed()["properties"]}},
    ],
    ids=["schema", "field", "retries", "event", "operator", "function", "dead-letters", "wrapped-twice"],
)
def test_a_subscription_that_event_grid_refuses_is_refused(call: Any, topic: str, body: Any) -> None:
    assert call("PUT", f"{topic}/eventSubscriptions/s", EVENT_GRID, body) == 400
    assert call("PUT", f"{topic}/eventSubscriptions/good", EVENT_GRID, subscribed()) in (200, 201)


def test_an_account_has_one_system_topic(call: Any, topic: str) -> None:
    body = {"location": "westeurope", "properties": {"source": LAKE, "topicType": "Microsoft.Storage.StorageAccounts"}}
    assert call("PUT", TOPIC.replace("lake-events", "second"), EVENT_GRID, body) == 400


@pytest.mark.parametrize(
    ("path", "properties", "status"),
    [
        (ROLE, {"principalId": "me", "roleDefinitionId": READER}, 400),
        (ROLE, {"principalId": APP_ID, "roleDefinitionId": READER[:-1] + "0"}, 400),
        (ROLE.replace("11111111-1111-1111-1111-111111111111", "reader"), {"principalId": APP_ID}, 400),
    ],
    ids=["principal", "role", "name"],
)
def test_a_role_assignment_has_guids_and_a_role_that_exists(call: Any, path: str, properties: Any, status: int) -> None:
    assert call("PUT", path, AUTHORIZATION, {"properties": properties}) == status


def test_a_role_is_given_once(call: Any) -> None:
    body = {"properties": {"principalId": APP_ID, "roleDefinitionId": READER}}
    assert call("PUT", ROLE, AUTHORIZATION, body) == 201
    assert call("PUT", ROLE.replace("1111-111111111111", "1111-222222222222"), AUTHORIZATION, body) == 409


@pytest.mark.parametrize(
    "properties",
    [
        {"nodeSize": "Small", "sparkVersion": "3.5", "autoScale": {"enabled": True, "minNodeCount": 1}},
        {"nodeSize": "Small", "sparkVersion": "3.5"},
        {"autoScale": {"enabled": True, "minNodeCount": 3, "maxNodeCount": 5}},
    ],
    ids=["too-few-nodes", "no-nodes", "no-size"],
)
def test_a_pool_that_synapse_refuses_is_refused(call: Any, properties: Any) -> None:
    assert call("PUT", POOL, SYNAPSE_ARM, {"location": "westeurope", "properties": properties}) == 400


def test_spark_is_for_who_has_a_synapse_role(azure: Subscription, call: Any) -> None:
    given, azure.roles.given = azure.roles.given, {}
    assert call("GET", LIVY, audience=SYNAPSE) == 403
    azure.roles.given = given
