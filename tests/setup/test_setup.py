"""Plan, apply, nothing to do: with the real clients, against a subscription that is strict."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from landfall.cli import app
from landfall.setup.plan import Step, apply, plan
from landfall.setup.table import resources
from shared.adapters.azure.endpoint_names import online_endpoint
from shared.settings import ROOT, Settings
from tests.setup.conftest import APP
from tests.standin.azureml import WORKSPACE
from tests.standin.resource_manager import HOME
from tests.standin.subscription import Subscription

LAKE_TOPIC = f"{HOME}/Microsoft.EventGrid/systemTopics/evgst-landfall"
LANDED = f"{LAKE_TOPIC}/eventSubscriptions/landed"
POOL = f"{HOME}/Microsoft.Synapse/workspaces/landfall-synapse/bigDataPools/spark"


def setup(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["setup", *arguments])


def open_steps(settings: Settings) -> list[Step]:
    return [step for step in plan(resources(settings)) if step.action != "same"]


def mend(settings: Settings) -> None:
    problems = [outcome for outcome in apply(resources(settings)) if outcome.problem]
    assert problems == []


def test_a_plan_changes_nothing_and_says_what_would_be_made(azure: Subscription) -> None:
    planned = setup()
    assert planned.exit_code == 5, planned.output
    for said in (
        "create  compute cluster cpu-cluster",
        "max_instances: 4",
        "create  Synapse linked service AzureMLLinkedService",
        "typeProperties.authentication: MSI",
        "waits   event subscription landed",
        "Nothing was changed",
    ):
        assert said in planned.output, planned.output
    assert azure.made("^PUT ") == []


def test_apply_makes_everything_in_one_run_and_the_next_has_nothing_to_do(azure: Subscription) -> None:
    applied = setup("--apply")
    assert applied.exit_code == 0, applied.output
    assert "failed" not in applied.output
    written = len(azure.made("^PUT "))
    again = setup("--apply")
    assert again.exit_code == 0
    assert "Nothing to do" in again.output
    assert len(azure.made("^PUT ")) == written
    assert setup("--json").exit_code == 0


def test_what_was_made_is_what_the_loop_needs(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    cluster = azure.ml.computes["cpu-cluster"]["properties"]
    assert cluster["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 4,
        "nodeIdleTimeBeforeScaleDown": "PT5M",
    }
    assert azure.synapse.linked_services["AzureMLLinkedService"]["properties"]["typeProperties"] == {
        "subscriptionId": settings.subscription,
        "resourceGroupName": settings.resource_group,
        "mlWorkspaceName": settings.workspace,
        "authentication": "MSI",
    }
    landed = azure.arm.of(LANDED)["properties"]
    assert landed["eventDeliverySchema"] == "EventGridSchema"
    assert landed["destination"]["properties"]["resourceId"] == f"{APP}/functions/event_storage"
    assert landed["deadLetterWithResourceIdentity"]["identity"] == {"type": "SystemAssigned"}
    assert "CreateFile" not in json.dumps(landed["filter"])
    assert azure.ml.datastores["landfall_lake"]["credentials"] == {"credentialsType": "None"}
    connection = azure.ml.connections["synapse-connection"]
    assert (connection["category"], connection["authType"]) == ("AzureSynapseAnalytics", "ManagedIdentity")
    names = [online_endpoint(name, WORKSPACE) for name in ("bank-customers", "customer-churn")]
    assert sorted(azure.endpoints.all) == names
    assert all(endpoint.properties["authMode"] == "AADToken" for endpoint in azure.endpoints.all.values())
    environments = {name for kind, name, _ in azure.ml.assets if kind == "environments"}
    assert environments == {"landfall-bank-customers", "landfall-customer-churn"}
    assert azure.arm.of(POOL)["properties"]["autoPause"] == {"enabled": True, "delayInMinutes": 15}
    assert {given["scope"] for given in azure.roles.given.values()} == {
        "workspaces/landfall-synapse",
        "workspaces/landfall-synapse/credentials/WorkspaceSystemIdentity",
    }


def test_batch_scoring_has_its_pipeline_and_with_a_sql_pool_its_way_there(
    azure: Subscription, settings: Settings
) -> None:
    mend(settings)
    assert set(azure.synapse.linked_services) == {"AzureMLLinkedService", "landfall-lake"}
    assert set(azure.pipelines.datasets) == {"landfall_lake_rows"}
    with_sql = dataclasses.replace(settings, sql_pool="warehouse")
    kinds = [(step.action, step.resource.kind) for step in open_steps(with_sql)]
    assert kinds == [
        ("create", "Synapse linked service"),
        ("create", "Synapse dataset"),
        ("change", "Synapse pipeline"),
    ]
    mend(with_sql)
    assert open_steps(with_sql) == []
    mend(settings)


def test_a_step_of_the_pipeline_that_was_changed_is_named(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    pipeline = azure.synapse.pipelines["landfall-batch-scoring"]["properties"]
    pipeline["lastPublishTime"] = "2026-01-01T00:00:00Z"
    assert open_steps(settings) == []
    score = next(activity for activity in pipeline["activities"] if activity["name"] == "Score")
    score["policy"]["retry"] = 3
    (step,) = open_steps(settings)
    assert [(c.field, c.there, c.wanted) for c in step.changes] == [("activities.Score.policy.retry", 3, 0)]
    mend(settings)
    assert open_steps(settings) == []


def filter_on_one_ending(azure: Subscription) -> None:
    azure.arm.of(LANDED)["properties"]["filter"]["subjectEndsWith"] = ".csv"


def deliver_cloud_events(azure: Subscription) -> None:
    azure.arm.of(LANDED)["properties"]["eventDeliverySchema"] = "CloudEventSchemaV1_0"


def forget_dead_letters(azure: Subscription) -> None:
    del azure.arm.of(LANDED)["properties"]["deadLetterWithResourceIdentity"]


def listen_to_opened_files(azure: Subscription) -> None:
    azure.arm.of(LANDED)["properties"]["filter"]["advancedFilters"][0]["values"].append("CreateFile")


def keep_a_node(azure: Subscription) -> None:
    azure.ml.computes["cpu-cluster"]["properties"]["scaleSettings"]["minNodeCount"] = 1


def never_pause(azure: Subscription) -> None:
    azure.arm.of(POOL)["properties"]["autoPause"] = {"enabled": False, "delayInMinutes": 0}


def use_a_key(azure: Subscription) -> None:
    of = azure.synapse.linked_services["AzureMLLinkedService"]["properties"]["typeProperties"]
    of["authentication"] = "ServicePrincipal"


def another_account(azure: Subscription) -> None:
    azure.ml.datastores["landfall_lake"]["accountName"] = "elsewhere"


def another_synapse(azure: Subscription) -> None:
    azure.ml.connections["synapse-connection"]["target"] = "https://elsewhere.dev.azuresynapse.net"


@pytest.mark.parametrize(
    ("by_hand", "kind", "field", "there", "wanted"),
    [
        (filter_on_one_ending, "event subscription", "filter.subjectEndsWith", ".csv", ""),
        (deliver_cloud_events, "event subscription", "eventDeliverySchema", "CloudEventSchemaV1_0", "EventGridSchema"),
        (forget_dead_letters, "event subscription", "deadLetter.container", "", "deadletter"),
        (listen_to_opened_files, "event subscription", "filter.advancedFilters", None, None),
        (keep_a_node, "compute cluster", "min_instances", 1, 0),
        (never_pause, "Spark pool", "autoPause.enabled", False, True),
        (use_a_key, "Synapse linked service", "typeProperties.authentication", "ServicePrincipal", "MSI"),
        (another_account, "datastore", "account_name", "elsewhere", "landfall"),
        (
            another_synapse,
            "workspace connection",
            "target",
            "https://elsewhere.dev.azuresynapse.net",
            "https://landfall-synapse.dev.azuresynapse.net",
        ),
    ],
)
def test_what_was_changed_by_hand_is_shown_and_mended(
    azure: Subscription, settings: Settings, by_hand: Any, kind: str, field: str, there: Any, wanted: Any
) -> None:
    mend(settings)
    by_hand(azure)
    (step,) = open_steps(settings)
    assert (step.action, step.resource.kind) == ("change", kind)
    change = next(change for change in step.changes if change.field == field)
    if there is not None:
        assert (change.there, change.wanted) == (there, wanted)
    mend(settings)
    assert open_steps(settings) == []


def test_a_cluster_in_a_network_with_an_identity_keeps_them(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    keep_a_node(azure)
    inner, network = azure.ml.computes["cpu-cluster"]["properties"], {"id": f"{HOME}/Microsoft.Network/subnets/jobs"}
    inner["subnet"] = network
    identity = dict(azure.ml.compute_identities["cpu-cluster"])
    mend(settings)
    assert open_steps(settings) == []
    assert azure.ml.computes["cpu-cluster"]["properties"]["subnet"] == network
    assert azure.ml.compute_identities["cpu-cluster"] == identity


def test_what_setup_has_no_opinion_on_is_left_alone(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    pool = azure.arm.of(POOL)
    pool["tags"], pool["properties"]["libraryRequirements"] = {"team": "churn"}, {"filename": "requirements.txt"}
    pool["properties"]["autoScale"]["maxNodeCount"] = 40
    pool["properties"]["autoPause"]["delayInMinutes"] = 60
    mend(settings)
    pool = azure.arm.of(POOL)
    assert pool["tags"] == {"team": "churn"}
    assert pool["properties"]["libraryRequirements"] == {"filename": "requirements.txt"}
    assert pool["properties"]["autoScale"]["maxNodeCount"] == 40
    assert pool["properties"]["autoPause"]["delayInMinutes"] == 15


def test_a_role_that_was_taken_away_is_given_again_and_one_from_above_counts(
    azure: Subscription, settings: Settings
) -> None:
    mend(settings)
    key, role = next(
        (key, made)
        for key, made in azure.arm.resources.items()
        if "/roleassignments/" in key and made["properties"]["description"] == "The ledger."
    )
    del azure.arm.resources[key]
    (step,) = open_steps(settings)
    assert (step.action, step.resource.name) == ("create", "Storage Table Data Contributor: app on app storage")
    above = f"{HOME.removesuffix('/providers')}/providers/Microsoft.Authorization/roleAssignments/{role['name']}"
    azure.arm.put(above, {**role["properties"], "scope": HOME.removesuffix("/providers")})
    assert open_steps(settings) == []
    del azure.arm.resources[above.lower()]
    mend(settings)
    assert open_steps(settings) == []


def test_a_function_that_is_not_deployed_is_named_and_stops_no_other(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    function = azure.arm.resources.pop(f"{APP}/functions/event_azureml".lower())
    topic = f"{HOME}/Microsoft.EventGrid/systemTopics/evgst-landfall-ws/eventSubscriptions/jobs-and-models"
    del azure.arm.resources[topic.lower()]
    keep_a_node(azure)
    applied = setup("--apply")
    assert applied.exit_code == 1
    assert "there is no function" in applied.output and "event_azureml" in applied.output
    assert "changed compute cluster cpu-cluster" in applied.output
    azure.arm.put(function["id"], function["properties"])
    assert setup("--apply").exit_code == 0


def test_what_may_not_be_looked_at_hides_nothing_else(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    keep_a_node(azure)
    azure.faults.add("GET management.azure.com.*/bigDataPools/", times=99, status=403)
    planned = setup("--json")
    assert planned.exit_code == 1
    steps = {(step["kind"], step["action"]): step for step in json.loads(planned.output) if step["action"] != "same"}
    assert set(steps) == {("Spark pool", "unknown"), ("compute cluster", "change")}
    assert "refuses" in steps["Spark pool", "unknown"]["reason"]
    azure.faults.clear()
    mend(settings)


def test_a_throttled_call_and_a_lost_answer_are_repeated(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    filter_on_one_ending(azure)
    azure.faults.add("PUT .*/eventSubscriptions/landed", status=429, headers={"Retry-After": "0"})
    azure.faults.add("PUT .*/eventSubscriptions/landed", reset=True, after=True)
    mend(settings)
    assert open_steps(settings) == []


def test_an_environment_gets_a_version_of_its_own_for_other_content(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    before = {key for key in azure.ml.assets if key[0] == "environments"}
    conda = settings.pipelines / "customer-churn" / "environment.yml"
    conda.write_text(conda.read_text() + "\n# another day\n")
    (step,) = open_steps(settings)
    assert (step.action, step.resource.name) == ("create", "landfall-customer-churn")
    mend(settings)
    assert len({key for key in azure.ml.assets if key[0] == "environments"} - before) == 1


def test_a_laptop_has_nothing_to_set_up_and_an_app_has_a_name(
    azure: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANDFALL_FUNCTION_APP", "")
    refused = setup()
    assert refused.exit_code == 1
    assert "LANDFALL_FUNCTION_APP" in str(refused.exception)
    monkeypatch.setenv("LANDFALL_BACKEND", "local")
    assert "a laptop needs no setup" in str(setup().exception)


def test_at_a_terminal_it_asks(azure: Subscription, settings: Settings) -> None:
    mend(settings)
    keep_a_node(azure)
    for answer, code, nodes in (("n", 5, 1), ("y", 0, 0)):
        terminal, end = pty.openpty()
        os.write(terminal, f"{answer}\n".encode())
        command = [sys.executable, "-m", "landfall.cli", "setup"]
        asked = subprocess.run(command, cwd=ROOT, stdin=end, capture_output=True, text=True, timeout=120, check=False)
        os.close(terminal)
        os.close(end)
        assert (asked.returncode, asked.stdout.count("Apply?")) == (code, 1), asked.stdout + asked.stderr
        assert azure.ml.computes["cpu-cluster"]["properties"]["scaleSettings"]["minNodeCount"] == nodes
