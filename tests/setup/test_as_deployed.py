"""What setup makes is what infra/ deploys, so that neither undoes the other."""

from __future__ import annotations

import re
from typing import Any

from landfall.setup import cluster, role, spark_pool, subscription
from shared.domain.landing import CLOSING, OWN_FOLDERS, STARTING
from tests.infra.bicep import read
from tests.infra.test_bicep import INFRA, resources
from tests.infra.test_code import ROLES as GIVEN

SCOPES = {
    "appStore": "app storage",
    "lakeStore::blobs::lake": "lake",
    "lakeStore::blobs::synapse": "synapse container",
    "lakeStore::blobs::deadletter": "dead letters",
    "mlStore": "ml storage",
    "workspace": "ml workspace",
    "images": "registry",
    "topic": "event topic",
    "traces": "insights",
}
WHO = {"app": "app", "jobs": "jobs", "synapse": "synapse", "lakeEvents": "lake events", "mlEvents": "ml events"}
ISOLATED = {"AcrPush", "Azure AI Enterprise Network Connection Approver"}
"""Roles that only an isolated network needs: setup leaves those to infra/."""


def test_the_same_roles_are_given_to_the_same_identities() -> None:
    deployed = {
        (WHO[grant.principal], grant.role, SCOPES[grant.scope])
        for grant in GIVEN
        if grant.principal in WHO and grant.scope in SCOPES and grant.role not in ISOLATED
    }
    assert {(grant.who, grant.role, grant.where) for grant in role.GRANTS} == deployed


def test_roles_have_the_ids_that_the_bicep_has() -> None:
    known = read(INFRA / "modules" / "roles.bicep").variables["roles"]
    assert {name: known[name] for name in role.ROLES} == role.ROLES


def test_the_same_events_are_subscribed_to() -> None:
    bicep = read(INFRA / "subscriptions.bicep")
    deployed = {r.body["name"]: r.body["properties"] for r in bicep.resources.values() if not r.existing}
    assert set(deployed) == {events.name for events in subscription.TABLE}
    for events in subscription.TABLE:
        there = deployed[events.name]
        given: dict[str, Any] = there["filter"]
        assert there["eventDeliverySchema"] == "EventGridSchema"
        assert there["destination"]["properties"]["resourceId"].endswith(f"/functions/{events.function}")
        assert tuple(given["includedEventTypes"]) == events.types
        assert given.get("subjectEndsWith", "") == events.ends
        assert given.get("isSubjectCaseSensitive", False) == events.of_lake
        begins = re.sub(r"\$\{landing\}", subscription.LANDING, given.get("subjectBeginsWith", ""))
        assert begins.removeprefix("${lake}") == events.begins
        assert bool(given.get("advancedFilters")) == events.of_lake
        assert there["retryPolicy"] == subscription.RETRIES
        letters = there["deadLetterWithResourceIdentity"]["deadLetterDestination"]["properties"]
        assert letters["blobContainerName"] == subscription.DEAD_LETTERS
    assert tuple(bicep.variables["committed"]) == subscription.COMMITTED


def test_events_of_whole_files_are_let_through_and_of_opened_ones_not() -> None:
    by_call = {api for api in subscription.COMMITTED}
    assert by_call <= CLOSING | STARTING
    assert not {"CreateFile", "SftpCreate"} & by_call
    assert subscription.LANDING.rstrip("/") not in OWN_FOLDERS


def test_clusters_and_pools_scale_in_the_same_way() -> None:
    (there,) = resources("Microsoft.MachineLearningServices/workspaces/computes")
    inner = there.body["properties"]["properties"]
    assert inner["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": cluster.NODES,
        "nodeIdleTimeBeforeScaleDown": f"PT{cluster.IDLE_SECONDS}S",
    }
    (pool,) = resources("Microsoft.Synapse/workspaces/bigDataPools")
    properties = pool.body["properties"]
    wanted = spark_pool.SparkPool.desired(None)  # type: ignore[arg-type]
    assert properties["autoPause"] == wanted["autoPause"]
    assert wanted["autoScale"].items() <= properties["autoScale"].items()
    assert properties["sessionLevelPackagesEnabled"] is wanted["sessionLevelPackagesEnabled"]
    assert {key: properties[key] for key in spark_pool.NEW} == spark_pool.NEW


def test_azd_gives_out_every_setting_that_setup_reads() -> None:
    from tests.setup.conftest import ENVIRONMENT

    given_out = set(read(INFRA / "main.bicep").outputs)
    # The container has a default, and the Bicep makes no other.
    assert set(ENVIRONMENT) - {"LANDFALL_LAKE_CONTAINER"} <= given_out
