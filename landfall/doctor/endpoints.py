"""Online endpoints, clusters, and cores for the next version."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from landfall.doctor.finding import Check, Finding
from landfall.setup.estate import MACHINE_LEARNING, Estate
from shared.adapters.azure.endpoint_names import online_endpoint
from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import ARM
from shared.definitions.catalog import Catalog
from shared.domain.pipelines import Pipeline
from shared.errors import Missing

EXTRA = 1.2
"""Azure ML keeps a fifth of a deployment's cores free for its own upgrades."""
MOST_DEPLOYMENTS = 20
FORBIDDEN = "Let who runs doctor read the workspace: it needs the role AzureML Data Scientist, or Reader, there."


def endpoint(estate: Estate, pipeline: Pipeline) -> Check:
    """Its state, and room for a deployment; what it may be called is a rule of pipelines."""
    name = online_endpoint(pipeline.endpoint, estate.workspace.path)

    def look() -> Iterator[Finding]:
        client = estate.workspace.client
        with translated(f"look up endpoint {name}"):
            there = client.online_endpoints.get(name)
            deployments = list(client.online_deployments.list(name))
        if there.provisioning_state == "Failed":
            yield check.wrong("it is in state Failed", f"Delete it and run landfall setup --apply, which makes {name}.")
        elif len(deployments) >= MOST_DEPLOYMENTS:
            what = f"it has {len(deployments)} deployments, the most that Azure ML allows"
            yield check.wrong(what, "Delete those without traffic: az ml online-deployment delete.")
        else:
            yield check.ok(f"is {there.provisioning_state}, {len(deployments)} deployments")

    check = Check(
        name="endpoint",
        subject=name,
        look=look,
        forbidden=FORBIDDEN,
        missing="Make it: landfall setup --apply.",
        audience=ARM,
    )
    return check


def quota(estate: Estate) -> Check:
    """Cores for the next deployment of every pipeline, which runs beside the present one during a rollout."""
    catalog = Catalog(estate.settings.pipelines)

    def look() -> Iterator[Finding]:
        place = f"{estate.subscription}/providers/Microsoft.MachineLearningServices/locations/{estate.region}"
        sizes = {size["name"].lower(): size for size in _all(estate, f"{place}/vmSizes")}
        usages = {usage["name"]["value"].lower(): usage for usage in _all(estate, f"{place}/usages")}
        for folder in catalog.all():
            rollout = folder.pipeline.rollout
            size = sizes.get(rollout.instance_type.lower())
            if size is None:
                what = f"{folder.pipeline.name} serves on {rollout.instance_type}, which {estate.region} does not have"
                yield check.wrong(what, "Choose another rollout.instance_type in its pipeline.yaml.")
                continue
            family = str(size["family"])
            usage = usages.get(family.lower(), {"currentValue": 0, "limit": 0})
            left = int(usage["limit"]) - int(usage["currentValue"])
            need = math.ceil(rollout.instance_count * int(size["vCPUs"]) * EXTRA)
            if need > left:
                yield check.wrong(
                    f"the next deployment of {folder.pipeline.name} needs {need} cores of {family}, and {left} of"
                    f" {usage['limit']} are left",
                    "Ask for more in Azure ML studio under Quota, or choose a smaller rollout.instance_type.",
                )
            else:
                yield check.ok(f"{folder.pipeline.name} needs {need} cores of {family} to deploy, {left} are left")

    check = Check(
        name="quota",
        subject=estate.settings.workspace,
        look=look,
        forbidden="Let who runs doctor read the subscription: it needs the role Reader there.",
        missing="Set LANDFALL_WORKSPACE to the name of the Azure ML workspace.",
        audience=ARM,
    )
    return check


def compute(estate: Estate, cluster: str) -> Check:
    """The cluster that jobs name is there and not broken."""

    def look() -> Iterator[Finding]:
        there = estate.arm.get(f"{estate.workspace.path}/computes/{cluster}", MACHINE_LEARNING)
        state = there["properties"].get("provisioningState", "Succeeded")
        if state == "Failed":
            errors = there["properties"].get("provisioningErrors") or [{}]
            reason = (errors[0].get("error") or {}).get("message", "Azure ML gave no reason")
            yield check.wrong(f"it could not be made: {reason}", "Delete it and run landfall setup --apply.")
            return
        try:
            estate.jobs_principal(cluster)
        except Missing as error:
            cure = "Give the cluster a managed identity: jobs open the lake with it."
            yield check.wrong(str(error), cure)
            return
        yield check.ok(f"is {state}")

    check = Check(
        name="compute",
        subject=cluster,
        look=look,
        forbidden=FORBIDDEN,
        missing="Make it: landfall setup --apply, or name another as training.compute in pipeline.yaml.",
        audience=ARM,
    )
    return check


def _all(estate: Estate, path: str) -> list[dict[str, Any]]:
    return estate.arm.list(path, MACHINE_LEARNING)
