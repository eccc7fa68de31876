"""Everything that can be wrong at once: each is found, with its cure, and none hides another."""

from __future__ import annotations

from typing import Any

import pytest

from shared.adapters.azure.endpoint_names import online_endpoint
from tests.doctor.conftest import Installation
from tests.setup.conftest import APP
from tests.standin.azureml import WORKSPACE
from tests.standin.resource_manager import HOME
from tests.standin.subscription import Subscription

TOPICS = f"{HOME}/Microsoft.EventGrid/systemTopics"
ROLE_TAKEN = {
    "The Functions host: locks, keys, timers, package.",
    "Signals, and those that failed at every attempt.",
    "The ledger.",
    "Jobs, models, endpoints, deployments, scoring.",
}
CHURN, BANK = (online_endpoint(name, WORKSPACE) for name in ("customer-churn", "bank-customers"))
CSV_LANDS_ELSEWHERE = "landing:\n  path: incoming/bank-customers"


@pytest.fixture(scope="module")
def found(installation: Installation) -> list[dict[str, Any]]:
    """What doctor finds after :func:`break_everything`."""
    break_everything(installation)
    code, findings = installation.examined()
    assert code == 1
    return findings


def break_everything(installation: Installation) -> None:
    azure, arm = installation.azure, installation.azure.arm
    azure.ahead = 600
    arm.app_settings |= {"AZURE_CLIENT_ID": "00000000-0000-0000-0000-0000000000ee", "LANDFALL_SPARK_POOL": "small"}
    del arm.resources[f"{APP}/functions/timer_drift".lower()]
    arm.of(f"{APP}/functions/timer_reconcile")["properties"]["isDisabled"] = True
    take_roles_away(azure)
    azure.roles.given.clear()
    landed = arm.of(f"{TOPICS}/evgst-landfall/eventSubscriptions/landed")["properties"]
    landed["filter"]["subjectBeginsWith"] = "/blobServices/default/containers/other/"
    landed["eventDeliverySchema"] = "CloudEventSchemaV1_0"
    del arm.of(f"{TOPICS}/evgst-landfall/eventSubscriptions/manifests")["properties"]["deadLetterWithResourceIdentity"]
    jobs = arm.of(f"{TOPICS}/evgst-landfall-ws/eventSubscriptions/jobs-and-models")["properties"]
    jobs["destination"]["properties"]["resourceId"] = f"{APP}/functions/event_ml"
    azure.endpoints.all[CHURN].state = "Failed"
    del azure.endpoints.all[BANK]
    azure.ml.computes["cpu-cluster"]["provisioningState"] = "Failed"
    arm.usages["standardDSv2Family"] = (6, 10)
    bank = installation.pipelines / "bank-customers" / "pipeline.yaml"
    bank.write_text(bank.read_text().replace("landing:\n  path: landing/bank-customers", CSV_LANDS_ELSEWHERE))


def take_roles_away(azure: Subscription) -> None:
    given = {key: made["properties"] for key, made in azure.arm.resources.items() if "/roleassignments/" in key}
    for key, properties in given.items():
        if properties["description"] in ROLE_TAKEN:
            del azure.arm.resources[key]
        if properties["description"].startswith("Reads and writes the lake"):
            reader = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
            properties["roleDefinitionId"] = properties["roleDefinitionId"].rpartition("/")[0] + "/" + reader


@pytest.mark.parametrize(
    ("check", "subject", "what", "cure"),
    [
        ("clock", "this machine", "behind Azure's", "timedatectl set-ntp true"),
        ("app identity", "func-landfall", "is 00000000-0000-0000-0000-0000000000ee", "AZURE_CLIENT_ID=00000000-"),
        ("app settings", "func-landfall", "LANDFALL_SPARK_POOL is small there and spark here", "Set it in the app"),
        ("functions", "func-landfall", "no function timer_drift", "azd deploy"),
        ("functions", "func-landfall", "timer_reconcile is switched off", "AzureWebJobs.timer_reconcile.Disabled"),
        ("lake", "landfall/lake", "not authorized", "Storage Blob Data Contributor"),
        ("queue", "landfall", "not authorized", "Storage Queue Data Contributor"),
        ("ledger", "landfall", "not authorized", "Storage Table Data Contributor"),
        ("Azure ML", "landfall-ws", "does not have authorization", "AzureML Data Scientist"),
        ("Spark pool", "landfall-synapse/spark", "required Synapse RBAC", "Synapse Compute Operator"),
        ("Synapse role", "Synapse Compute Operator: app", "does not exist", "landfall setup --apply"),
        (
            "role assignment",
            "Storage Table Data Contributor: app on app storage",
            "not exist",
            "landfall setup --apply",
        ),
        (
            "event subscription",
            "landed",
            "filter.subjectBeginsWith is '/blobServices/default/containers/other/'",
            "mend",
        ),
        ("event subscription", "landed", "eventDeliverySchema is 'CloudEventSchemaV1_0'", "landfall setup --apply"),
        ("event subscription", "manifests", "deadLetter.container is ''", "landfall setup --apply"),
        ("event subscription", "jobs-and-models", "functions/event_ml' and should be", "landfall setup --apply"),
        ("endpoint", CHURN, "in state Failed", "Delete it and run landfall setup --apply"),
        ("endpoint", BANK, "does not exist", "landfall setup --apply"),
        ("compute", "cpu-cluster", "could not be made", "Delete it"),
        ("quota", "landfall-ws", "needs 5 cores of standardDSv2Family, and 4 of 10 are left", "Quota"),
        ("landing", "landing/", "bank-customers lands in incoming/bank-customers", "below landing/"),
    ],
)
def test_each_is_found_with_its_cure(
    found: list[dict[str, Any]], check: str, subject: str, what: str, cure: str
) -> None:
    mine = [one for one in found if (one["check"], one["subject"]) == (check, subject) and one["state"] != "ok"]
    assert any(what in one["what"] and cure in one["cure"] for one in mine), mine


def test_what_is_well_is_still_said(found: list[dict[str, Any]]) -> None:
    well = {one["check"] for one in found if one["state"] == "ok"}
    assert {"token", "Synapse linked service", "datastore", "container", "landing"} <= well


def test_every_finding_that_is_not_well_has_a_cure(found: list[dict[str, Any]]) -> None:
    assert [one for one in found if one["state"] != "ok" and len(one["cure"]) < 10] == []


def test_no_finding_shows_a_token(found: list[dict[str, Any]]) -> None:
    assert "eyJ" not in str(found)
