"""What infra/ deploys is what the code asks for: settings, functions, events, roles."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from shared.definitions.catalog import Catalog
from shared.domain import events
from shared.domain.landing import CLOSING, OWN_FOLDERS, STARTING
from shared.settings import QUEUE
from tests.infra.bicep import read
from tests.infra.test_bicep import INFRA, resources

ROOT = INFRA.parent
APP = read(INFRA / "modules" / "function-app.bicep").resources["app"].body["properties"]
SETTINGS = {setting["name"]: setting["value"] for setting in APP["siteConfig"]["appSettings"]}
SUBSCRIPTIONS = {
    name: resource.body["properties"]
    for name, resource in read(INFRA / "subscriptions.bicep").resources.items()
    if not resource.existing
}
LAPTOP_ONLY = {
    "LANDFALL_HOME": "Azure keeps the state in its services",
    "LANDFALL_PORT": "the Functions host listens",
    "LANDFALL_PACE": "Azure runs in real time",
    "AzureWebJobsStorage": "the identity is in the place of a connection string",
    "LANDFALL_QUEUE": "Azure has its queue in the storage account",
    "LANDFALL_PIPELINES": "the folder is deployed with the app, under its default name",
}


class Grant(NamedTuple):
    """Who, which role, on what."""

    principal: str
    role: str
    scope: str


LAKE, DEADLETTER, SYNAPSE = (f"lakeStore::blobs::{name}" for name in ("lake", "deadletter", "synapse"))
ROLES = {
    Grant("app", "Storage Blob Data Owner", "appStore"): "Functions host: locks, keys, timers, package",
    Grant("app", "Storage Queue Data Contributor", "appStore"): "shared.ports.signal_queue:SignalQueue.send",
    Grant("app", "Storage Table Data Contributor", "appStore"): "shared.ports.run_ledger:RunLedger.replace",
    Grant("app", "Storage Blob Data Contributor", LAKE): "shared.ports.lake:Lake.write",
    Grant("app", "Storage Blob Data Contributor", SYNAPSE): "shared.ports.feature_engine:FeatureEngine.submit",
    Grant("app", "Storage Blob Data Reader", "mlStore"): "shared.adapters.azure.job_files:JobFiles.read",
    Grant("app", "AzureML Data Scientist", "workspace"): "shared.adapters.azure.training_service:AzureTrainingService",
    Grant("app", "EventGrid Data Sender", "topic"): "shared.adapters.azure.event_publisher:EventGridTopic.publish",
    Grant("app", "Monitoring Metrics Publisher", "traces"): "shared.adapters.azure.traces:provider",
    Grant("app", "Synapse Compute Operator", "synapse"): "shared.ports.feature_engine:FeatureEngine.submit",
    Grant("jobs", "Storage Blob Data Contributor", LAKE): "shared.jobs.score_lake:main",
    Grant("jobs", "Storage Blob Data Contributor", "mlStore"): "shared.adapters.azure.job_files:output_uri",
    Grant("jobs", "AcrPull", "images"): "nodes of the cluster pull a job's image",
    Grant("jobs", "AcrPush", "images"): "isolated: nodes of the cluster build images",
    Grant("synapse", "Storage Blob Data Contributor", LAKE): "pipelines of Synapse copy rows in and scores out",
    Grant("synapse", "Storage Blob Data Contributor", SYNAPSE): "the workspace's own files",
    Grant("synapse", "AzureML Data Scientist", "workspace"): "pipelines of Synapse invoke the batch endpoint",
    Grant("lakeEvents", "Storage Blob Data Contributor", DEADLETTER): "Event Grid dead-letters storage events",
    Grant("mlEvents", "Storage Blob Data Contributor", DEADLETTER): "Event Grid dead-letters Azure ML events",
    Grant("ml", "Azure AI Enterprise Network Connection Approver", "lakeStore"): "isolated: the way to the lake",
    Grant("operator", "Storage Blob Data Contributor", LAKE): "who deployed lands files",
    Grant("operator", "Storage Queue Data Contributor", "appStore"): "who deployed replays dead letters",
    Grant("operator", "Storage Table Data Contributor", "appStore"): "who deployed asks for status and reasons",
}
"""Every role that is given, and the call that needs it: ``module:name`` of ours, or what Azure does for us."""
SERVICES = {
    "azure.ai.ml": {"AzureML Data Scientist"},
    "azure.data.tables": {"Storage Table Data Contributor"},
    "azure.eventgrid": {"EventGrid Data Sender"},
    "azure.monitor.opentelemetry": {"Monitoring Metrics Publisher"},
    "azure.storage.blob": {"Storage Blob Data Contributor", "Storage Blob Data Reader"},
    "azure.storage.queue": {"Storage Queue Data Contributor"},
    "azure.synapse.artifacts": {"Synapse Compute Operator"},
    "azure.synapse.spark": {"Synapse Compute Operator"},
}
"""The roles that the app needs to call a service through its SDK."""
NO_SERVICE = ("azure.core", "azure.functions", "azure.identity")


@cache
def bindings() -> dict[str, list[dict[str, Any]]]:
    """The bindings of every function that the app registers."""
    look = (
        "import json, function_app\n"
        "print(json.dumps({f.get_function_name(): json.loads(str(f))['bindings']"
        " for f in function_app.app.get_functions()}))"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_setting_that_the_code_reads_is_set_and_no_other() -> None:
    asked = _settings_read()
    assert set(LAPTOP_ONLY) <= asked
    assert asked - set(LAPTOP_ONLY) - set(SETTINGS) == set()
    assert {name for name in SETTINGS if name.startswith("LANDFALL_")} - asked == set()
    assert SETTINGS["LANDFALL_BACKEND"] == "azure"
    assert SETTINGS["AZURE_CLIENT_ID"] == "identityClient", "the adapters' credential is told it"


def test_every_connection_of_a_binding_is_made_with_the_identity() -> None:
    connections = {b["connection"] for each in bindings().values() for b in each if "connection" in b}
    for connection in connections | {"AzureWebJobsStorage"}:
        assert connection not in SETTINGS, "that would be a connection string"
        assert SETTINGS[f"{connection}__credential"] == "managedidentity"
        assert SETTINGS[f"{connection}__clientId"] == "identityClient"
        assert f"{connection}__accountName" in SETTINGS
    assert not {"FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION"} & set(SETTINGS), "Flex refuses them"


def test_every_queue_of_a_binding_is_there_from_the_start() -> None:
    wanted = {b["queueName"] for each in bindings().values() for b in each if "queueName" in b}
    assert wanted == {QUEUE, f"{QUEUE}-poison"}
    made = {name for r in resources("Microsoft.Storage/storageAccounts/queueServices/queues") for name in r.each}
    assert made == wanted


def test_every_event_grid_function_is_subscribed_and_every_subscription_has_its_function() -> None:
    triggered = {name for name, each in bindings().items() if any(b["type"] == "eventGridTrigger" for b in each)}
    called = set()
    for subscription in SUBSCRIPTIONS.values():
        destination = subscription["destination"]
        assert destination["endpointType"] == "AzureFunction"
        called.add(re.fullmatch(r"\$\{app\.id\}/functions/(\w+)", destination["properties"]["resourceId"])[1])
    assert called == triggered


def test_subscriptions_deliver_the_schema_that_the_trigger_decodes_and_lose_nothing() -> None:
    for subscription in SUBSCRIPTIONS.values():
        assert subscription["eventDeliverySchema"] == "EventGridSchema"
        assert subscription["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        dead = subscription["deadLetterWithResourceIdentity"]
        assert dead["identity"] == {"type": "SystemAssigned"}
        assert dead["deadLetterDestination"]["properties"]["blobContainerName"] == "deadletter"
    topics = resources("Microsoft.EventGrid/systemTopics")
    assert all(topic.body["identity"] == {"type": "SystemAssigned"} for topic in topics)


def test_storage_subscriptions_let_in_what_the_code_takes_for_a_whole_file() -> None:
    apis = (CLOSING | STARTING) - {"Found", "BlobRenamed", "DirectoryRenamed"}
    for name in ("landed", "manifests"):
        (only,) = SUBSCRIPTIONS[name]["filter"]["advancedFilters"]
        assert (only["operatorType"], only["key"], only["values"]) == ("StringIn", "data.api", "committed")
    assert set(read(INFRA / "subscriptions.bicep").variables["committed"]) == apis


def test_storage_subscriptions_wake_the_loop_and_nothing_else() -> None:
    where = {name: _subjects(SUBSCRIPTIONS[name]["filter"]) for name in ("landed", "manifests")}
    prefix = "/blobServices/default/containers/lake/blobs/"
    assert SETTINGS["LANDFALL_LAKE_CONTAINER"] == "lake"
    assert where["landed"] == (f"{prefix}landing/", "")
    assert where["manifests"] == (f"{prefix}features/", "/manifest.json")
    for folder in Catalog(ROOT / "pipelines").all():
        assert f"{folder.pipeline.landing.path}/".startswith("landing/"), folder.pipeline.name
    assert "landing" not in OWN_FOLDERS
    assert events._MANIFEST.fullmatch("features/churn/churn-b1/manifest.json")


def test_subscriptions_ask_for_the_events_that_the_code_understands() -> None:
    storage = {kind for name in ("landed", "manifests") for kind in SUBSCRIPTIONS[name]["filter"]["includedEventTypes"]}
    azureml = SUBSCRIPTIONS["jobsAndModels"]["filter"]["includedEventTypes"]
    for kinds, prefix, signal in (
        (storage, events.STORAGE, events.storage_signal),
        (azureml, events.AZUREML, events.azureml_signal),
    ):
        for kind in kinds:
            empty = events.Event(id="1", type=kind, topic="", subject="", at=None, data=None)
            assert kind.startswith(prefix)
            assert not isinstance(signal(empty), events.NoSignal), f"{kind} wakes nothing"


def test_every_pipeline_trains_on_a_cluster_that_is_deployed() -> None:
    cluster = read(INFRA / "main.bicep")
    assert cluster.params["clusterName"] == ("string", True)
    default = re.search(r"param clusterName string = '([^']+)'", cluster.path.read_text(encoding="utf-8"))
    assert default
    assert {folder.pipeline.training.compute for folder in Catalog(ROOT / "pipelines").all()} == {default[1]}


def test_every_role_is_in_the_table_and_says_what_needs_it() -> None:
    given = dict(_grants())
    assert set(given) == set(ROLES)
    assert all(10 <= len(call) <= 200 for call in given.values())


def test_every_call_of_ours_that_a_role_is_given_for_exists() -> None:
    for call in ROLES.values():
        module, _, path = call.partition(":")
        if module.startswith("shared."):
            found: Any = import_module(module)
            for name in path.split("."):
                found = getattr(found, name, None) or found.__annotations__[name]


def test_every_service_that_the_app_calls_lets_it_in() -> None:
    called = {name for path in (ROOT / "shared").rglob("*.py") for name in _azure_imports(path)}
    named = {name: next((s for s in SERVICES if f"{name}.".startswith(f"{s}.")), None) for name in called}
    assert [name for name, service in named.items() if service is None] == []
    has = {grant.role for grant in ROLES if grant.principal == "app"}
    assert {role for service in named.values() if service for role in SERVICES[service]} <= has


def _settings_read() -> set[str]:
    """Every name that ``load`` looks up: those of ours wherever they stand, and what ``env.get`` is asked for."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / "shared" / "settings.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall("^LANDFALL_[A-Z_]+$", node.value))
        called = isinstance(node, ast.Call) and ast.unparse(node.func) == "env.get"
        if called and isinstance(node.args[0], ast.Constant):
            names.add(ast.literal_eval(node.args[0]))
    return names


def _subjects(given: dict[str, Any]) -> tuple[str, str]:
    variables = {"lake": "/blobServices/default/containers/lake/blobs/", "landing": "landing/"}
    begins = re.sub(r"\$\{(\w+)\}", lambda m: variables[m[1]], given["subjectBeginsWith"])
    return begins, given.get("subjectEndsWith", "")


def _grants() -> Iterator[tuple[Grant, str]]:
    bicep = read(INFRA / "modules" / "roles.bicep")
    for assignment in resources("Microsoft.Authorization/roleAssignments"):
        assert assignment.file == bicep.path, "roles are given in one file"
        properties, scope = assignment.body["properties"], str(assignment.body["scope"])
        if assignment.each is None:
            role = re.search(r"roles\['(.+)'\]", properties["roleDefinitionId"])
            assert role and role[1] in bicep.variables["roles"]
            yield Grant(_who(properties["principalId"]), role[1], scope), properties["description"]
            continue
        for one in bicep.variables[assignment.each]:
            for role_name in re.findall(r"'([^']+)'", one["role"]) or [one["role"]]:
                assert role_name in bicep.variables["roles"]
                yield Grant(_who(one["to"]), role_name, scope), one["call"]
    hook = (INFRA / "hooks" / "synapse-role.sh").read_text(encoding="utf-8")
    for role_name in set(re.findall(r'--role "([^"]+)"', hook)):
        yield Grant("app", role_name, "synapse"), "shared.ports.feature_engine:FeatureEngine.submit"


def _who(principal: str) -> str:
    return principal.removesuffix("Principal")


def _azure_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name for name in modules if name.startswith("azure.") and not name.startswith(NO_SERVICE)}
    return found
