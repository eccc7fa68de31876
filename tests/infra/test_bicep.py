"""The Bicep is sound in itself: what `az bicep build` would say first, and what Azure would refuse or leave open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.bicep import Bicep, Resource, read

INFRA = Path(__file__).resolve().parents[2] / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
FUNCTIONS = {
    "concat", "empty", "environment", "guid", "map", "replace", "resourceGroup", "resourceId", "subscription",
    "subscriptionResourceId", "toLower", "union", "uniqueString",
}  # fmt: skip
"""Bicep's own functions that are used; a misspelled one is not among them."""
TOKEN = "abcdefghijklm"
"""uniqueString() gives 13 characters."""
LIMITS = {
    "Microsoft.ContainerRegistry/registries": r"[A-Za-z0-9]{5,50}",
    "Microsoft.EventGrid/systemTopics": r"[A-Za-z0-9-]{3,50}",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": r"[A-Za-z0-9-]{3,64}",
    "Microsoft.EventGrid/topics": r"[A-Za-z0-9-]{3,50}",
    "Microsoft.Insights/components": r"[\w().-]{1,254}[\w()-]",
    "Microsoft.KeyVault/vaults": r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]",
    "Microsoft.MachineLearningServices/workspaces": r"[A-Za-z0-9][\w-]{2,32}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[A-Za-z0-9][\w-]{2,127}",
    "Microsoft.Network/privateEndpoints": r"[A-Za-z0-9][\w.-]{0,62}\w",
    "Microsoft.Network/virtualNetworks": r"[A-Za-z0-9][\w.-]{0,62}\w",
    "Microsoft.OperationalInsights/workspaces": r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
    "Microsoft.Resources/resourceGroups": r"[\w().-]{0,89}[\w()-]",
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.Storage/storageAccounts/blobServices/containers": r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
    "Microsoft.Storage/storageAccounts/queueServices/queues": r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
    "Microsoft.Synapse/workspaces": r"(?!.*-ondemand)[a-z0-9][a-z0-9-]{0,48}[a-z0-9]",
    "Microsoft.Synapse/workspaces/bigDataPools": r"[A-Za-z][A-Za-z0-9]{0,14}",
    "Microsoft.Web/serverfarms": r"[A-Za-z0-9-]{1,60}",
    "Microsoft.Web/sites": r"[A-Za-z0-9][A-Za-z0-9-]{0,58}[A-Za-z0-9]",
}
FIXED = {"default", "landfall", "ftp", "scm", "everywhere"}
"""Names of children that have no limits worth a rule, or that Azure gives."""
AUDITED = {
    "Microsoft.ContainerRegistry/registries", "Microsoft.EventGrid/systemTopics", "Microsoft.EventGrid/topics",
    "Microsoft.KeyVault/vaults", "Microsoft.MachineLearningServices/workspaces",
    "Microsoft.Storage/storageAccounts/blobServices", "Microsoft.Synapse/workspaces",
    "Microsoft.Synapse/workspaces/bigDataPools", "Microsoft.Web/sites",
}  # fmt: skip
LISTING = re.compile(r"\blist(Keys|Secrets|AccountSas|ServiceSas|Credentials|AdminKeys)\b")
SECRET = re.compile(r"(?i)(accountkey|sharedaccess|password|pwd)\s*=|[?&]sig=|-----BEGIN|\b[A-Za-z0-9+/]{60,}={0,2}$")


def resources(*types: str) -> list[Resource]:
    """What is created, of all files; of ``types`` only when some are given."""
    return [
        resource
        for path in FILES
        for resource in read(path).resources.values()
        if not resource.existing and (not types or resource.type in types)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_name_that_a_file_uses_is_declared_and_every_declared_one_is_used(path: Path) -> None:
    bicep = read(path)
    declared = {*bicep.params, *bicep.variables, *bicep.resources, *bicep.modules}
    used = dict((name, line) for line, name in bicep.names())
    assert {f"line {line}: {name}" for name, line in used.items() if name not in declared} == set()
    assert {f"line {line}: {name}()" for line, name in bicep.calls() if name not in FUNCTIONS} == set()
    created = {symbol for symbol, resource in bicep.resources.items() if not resource.existing}
    assert declared - set(used) - created - set(bicep.modules) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_module_gets_the_parameters_it_declares_and_gives_the_outputs_that_are_asked(path: Path) -> None:
    bicep = read(path)
    for module in bicep.modules.values():
        target = read(module.path)
        required = {name for name, (_, default) in target.params.items() if not default}
        assert set(module.params) <= set(target.params), module.symbol
        assert required <= set(module.params), module.symbol
    asked = re.findall(r"\b(\w+)!?\.outputs\.(\w+)", path.read_text(encoding="utf-8"))
    assert [f"{m}.{o}" for m, o in asked if o not in read(bicep.modules[m].path).outputs] == []


def test_every_file_is_deployed() -> None:
    modules = {module.path for path in FILES for module in read(path).modules.values()}
    assert set(FILES) - modules == {INFRA / "main.bicep", INFRA / "subscriptions.bicep"}


def test_every_resource_says_its_api_version() -> None:
    for path in FILES:
        for resource in read(path).resources.values():
            nested = resource.existing and resource.type.count("/") > 1
            assert nested or re.fullmatch(r"20\d\d-\d\d-\d\d(-preview)?", resource.api), resource
    previews = {resource.type for resource in resources() if resource.api.endswith("-preview")}
    assert previews == {"Microsoft.Insights/diagnosticSettings"}, "that one has no other version"


def test_names_keep_to_what_azure_takes() -> None:
    seen = set()
    for resource in resources():
        if "name" not in resource.body or resource.type.startswith("Microsoft.Authorization"):
            continue
        for name in _names(resource):
            if name not in FIXED and not name.startswith("privatelink."):
                seen.add(resource.type)
                assert re.fullmatch(LIMITS[resource.type], name), f"{name} of {resource.type}"
    assert set(LIMITS) - seen - {"Microsoft.Network/privateEndpoints"} == set()


def test_nothing_secret_is_written_down_or_handed_out() -> None:
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        assert not LISTING.search(source), path
        assert [text for text in read(path).strings() if SECRET.search(text)] == []
    handed = {name: str(given) for path in FILES for name, given in read(path).outputs.items()}
    keyed = {name for name, given in handed.items() if re.search("(?i)key|secret|connectionstring|token", given + name)}
    # It names where traces go; DisableLocalAuth leaves the key in it without use.
    assert keyed == {"connectionString"}
    (insights,) = resources("Microsoft.Insights/components")
    assert insights.body["properties"]["DisableLocalAuth"] is True


def test_only_identities_get_in() -> None:
    accounts = {r.symbol: r.body["properties"] for r in resources("Microsoft.Storage/storageAccounts")}
    assert {name: p["allowSharedKeyAccess"] for name, p in accounts.items()} == {
        "lake": False,
        "app": False,
        "ml": True,
    }
    assert all(p["allowBlobPublicAccess"] is False and p["minimumTlsVersion"] == "TLS1_2" for p in accounts.values())
    (topic,) = resources("Microsoft.EventGrid/topics")
    (registry,) = resources("Microsoft.ContainerRegistry/registries")
    (vault,) = resources("Microsoft.KeyVault/vaults")
    (synapse,) = resources("Microsoft.Synapse/workspaces")
    (app,) = resources("Microsoft.Web/sites")
    assert topic.body["properties"]["disableLocalAuth"] is True
    assert registry.body["properties"]["adminUserEnabled"] is False
    assert vault.body["properties"]["enableRbacAuthorization"] is True
    assert synapse.body["properties"]["azureADOnlyAuthentication"] is True
    assert app.body["properties"]["httpsOnly"] is True
    passwords = resources("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {(p.body["name"], p.body["properties"]["allow"]) for p in passwords} == {("ftp", False), ("scm", False)}


def test_nothing_costs_while_nothing_runs() -> None:
    (plan,) = resources("Microsoft.Web/serverfarms")
    (app,) = resources("Microsoft.Web/sites")
    (cluster,) = resources("Microsoft.MachineLearningServices/workspaces/computes")
    (pool,) = resources("Microsoft.Synapse/workspaces/bigDataPools")
    assert plan.body["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    assert "alwaysReady" not in app.body["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    scale = cluster.body["properties"]["properties"]["scaleSettings"]
    assert scale == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT300S"}
    assert pool.body["properties"]["autoPause"]["enabled"] is True


def test_what_keeps_data_or_decides_something_leaves_an_audit_trail() -> None:
    settings = resources("Microsoft.Insights/diagnosticSettings")
    watched = {(setting.file, str(setting.body["scope"])) for setting in settings}
    assert {(r.file, r.symbol) for r in resources(*AUDITED)} == watched
    assert all(any(log["enabled"] for log in setting.body["properties"]["logs"]) for setting in settings)


def test_an_isolated_deployment_has_a_private_way_to_every_service_and_no_public_one() -> None:
    main, network = read(INFRA / "main.bicep"), read(INFRA / "modules" / "network.bicep")
    targets = main.modules["endpoints"].params["targets"]
    assert main.modules["endpoints"].condition == main.modules["network"].condition == "(isolated)"
    reached = {(str(target["service"]).split(".")[-1], target["group"]) for target in targets}
    assert reached >= {
        ("lakeId", "blob"), ("lakeId", "dfs"), ("appId", "blob"), ("appId", "queue"), ("appId", "table"),
        ("mlId", "blob"), ("vaultId", "vault"), ("registryId", "registry"), ("topicId", "topic"),
    }  # fmt: skip
    assert {group for _, group in reached} >= {"amlworkspace", "Dev"}
    assert {zone for target in targets for zone in target["zones"]} == set(network.variables["zones"])
    longest = max(len(f"pe-{target['name']}-{TOKEN}") for target in targets)
    assert longest <= 64
    for resource in resources():
        access = resource.body.get("properties", {})
        if isinstance(access, dict) and "publicNetworkAccess" in access and resource.type != "Microsoft.Web/sites":
            assert str(access["publicNetworkAccess"]) in ("publicNetworkAccess", "isolated ? 'Disabled' : 'Enabled'")
    assert main.variables["publicNetworkAccess"] == "isolated ? 'Disabled' : 'Enabled'"


def _names(resource: Resource) -> list[str]:
    name: Any = resource.body["name"]
    if resource.variable and str(name) == resource.variable:
        return [str(item) for item in resource.each] if isinstance(resource.each, list) else []
    if "${target" in str(name):
        return []
    if str(name) == "clusterName":
        return []
    return [str(name).replace("${token}", TOKEN).replace("${environmentName}", "e" * 40)]


def test_a_file_that_is_no_bicep_is_refused_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text("param a string\nresource b 'X/y@2024-01-01' = {\n  name: [\n}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.bicep:\d"):
        read(broken)


def test_the_reader_tells_literals_from_what_azure_works_out(tmp_path: Path) -> None:
    path = tmp_path / "small.bicep"
    path.write_text("param a string\nvar b = { c: [1, true, 'x${a}', a], d: null }\n", encoding="utf-8")
    bicep: Bicep = read(path)
    assert bicep.params == {"a": ("string", False)}
    assert bicep.variables["b"] == {"c": [1, True, "x${a}", "a"], "d": None}
