"""Azure ML and Synapse: reachable, and willing to do this identity's work."""

from __future__ import annotations

from collections.abc import Iterator

from landfall.doctor.finding import Check, Finding
from landfall.doctor.tokens import runs_as_app
from landfall.setup.estate import Estate
from landfall.setup.synapse_role import AUDIENCE as SYNAPSE
from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import ARM, careful_retries

SECONDS = 20.0


def workspace(estate: Estate) -> Check:
    """Jobs can be listed, and the data plane, which scores and keeps run history, is found."""

    def look() -> Iterator[Finding]:
        with translated(f"list jobs of workspace {estate.settings.workspace}"):
            next(iter(estate.workspace.client.jobs.list(max_results=1)), None)
        yield check.ok(f"lists its jobs; run history is at {estate.workspace.api}")

    check = Check(
        name="Azure ML",
        subject=estate.settings.workspace,
        look=look,
        forbidden=_role("AzureML Data Scientist", estate.workspace.path),
        missing="Set LANDFALL_SUBSCRIPTION, LANDFALL_RESOURCE_GROUP and LANDFALL_WORKSPACE to those of the workspace.",
        cure="If infra/ was deployed with isolated, run doctor inside its network.",
        audience=ARM,
        as_app=lambda: runs_as_app(estate),
    )
    return check


def spark_pool(estate: Estate) -> Check:
    """Batches of the pool can be listed."""
    settings = estate.settings

    def look() -> Iterator[Finding]:
        from azure.synapse.spark import SparkClient

        client = SparkClient(
            estate.credential,
            f"https://{settings.synapse}.dev.azuresynapse.net",
            settings.spark_pool,
            retry_policy=careful_retries(SECONDS),
            connection_timeout=SECONDS,
            read_timeout=SECONDS,
        )
        with translated(f"list batches of Spark pool {settings.spark_pool}"):
            client.spark_batch.get_spark_batch_jobs(size=1)
        yield check.ok("lists its batches")

    check = Check(
        name="Spark pool",
        subject=f"{settings.synapse}/{settings.spark_pool}",
        look=look,
        forbidden=(
            "Give the identity that doctor runs as the Synapse role Synapse Compute Operator: az synapse role"
            f" assignment create --workspace-name {settings.synapse} --role 'Synapse Compute Operator' --assignee ID"
            " (the app's own identity gets it from landfall setup --apply)."
        ),
        missing="Set LANDFALL_SPARK_POOL to a pool of the workspace, or make it: landfall setup --apply.",
        cure="Is LANDFALL_SYNAPSE right? If infra/ was deployed with isolated, run doctor inside its network.",
        audience=SYNAPSE,
        as_app=lambda: runs_as_app(estate),
    )
    return check


def _role(role: str, scope: str) -> str:
    return (
        f"Give the identity that doctor runs as the role {role}: az role assignment create --role '{role}'"
        f" --assignee-object-id ID --scope {scope} (the app's own identity gets it from landfall setup --apply)."
    )
