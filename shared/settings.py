"""Settings of the app; the one place that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import ConfigurationError, Fault

ROOT = Path(__file__).resolve().parent.parent
QUEUE = "landfall-signals"
"""Name of the signal queue; its poison queue is landfall-signals-poison."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``backend`` is local or azure; ``home`` holds a laptop's state, ``pipelines`` the pipeline folders.

    ``pace`` makes the waiting of a laptop's loop shorter: quiet windows, bake times, drift windows and
    cooldowns of all pipelines are divided by it. ``queue`` is embedded, or storage: then a laptop's signals go
    through the storage that ``app_storage`` (a connection string) names, as under the Functions Core Tools.

    On Azure ``account`` is the lake, ``app_account`` the storage account of the function app, which has queue and
    ledger. ``subscription``, ``resource_group`` and ``workspace`` are those of Azure ML, ``synapse`` and
    ``spark_pool`` those of Synapse, ``events_topic`` is the address of the Event Grid topic that Landfall
    publishes to, ``client_id`` the user-assigned identity (empty: the system-assigned one), ``traces`` the
    connection string of the Application Insights that gets spans. ``function_app`` is the app itself, by its name:
    who sets it up and examines it has to know. ``sql_pool`` is the dedicated SQL pool of the Synapse workspace that
    batch scoring may read from and load into (empty: none).
    """

    backend: str
    home: Path
    port: int
    pipelines: Path
    account: str
    container: str
    pace: float = 1.0
    queue: str = "embedded"
    app_storage: str = field(default="", repr=False)
    app_account: str = ""
    client_id: str = ""
    subscription: str = ""
    resource_group: str = ""
    workspace: str = ""
    synapse: str = ""
    spark_pool: str = ""
    events_topic: str = ""
    traces: str = field(default="", repr=False)
    function_app: str = ""
    sql_pool: str = ""


def load(environment: Mapping[str, str] | None = None, *, for_setup: bool = False) -> Settings:
    """The settings from environment variables (the process's own by default).

    LANDFALL_BACKEND (local), LANDFALL_HOME (.landfall), LANDFALL_PORT (7071), LANDFALL_PIPELINES
    (pipelines), LANDFALL_LAKE_ACCOUNT (landfall), LANDFALL_LAKE_CONTAINER (lake), LANDFALL_PACE (1) and
    LANDFALL_QUEUE (embedded); LANDFALL_SUBSCRIPTION, LANDFALL_RESOURCE_GROUP, LANDFALL_WORKSPACE,
    LANDFALL_SYNAPSE, LANDFALL_SPARK_POOL and LANDFALL_EVENTS_TOPIC, which the azure backend needs;
    LANDFALL_FUNCTION_APP, which setup and doctor need, and LANDFALL_SQL_POOL;
    AzureWebJobsStorage, AzureWebJobsStorage__accountName, AZURE_CLIENT_ID and
    APPLICATIONINSIGHTS_CONNECTION_STRING as the Functions host reads them.
    ``for_setup`` demands what setup and doctor need beyond the app. Relative folders are below the app's
    folder. Raises :class:`~shared.errors.ConfigurationError` with
    every fault found.
    """
    env = os.environ if environment is None else environment
    faults: list[Fault] = []
    backend = env.get("LANDFALL_BACKEND", "local")
    if backend not in ("local", "azure"):
        faults.append(Fault("LANDFALL_BACKEND", f"{backend!r} is no backend", "Set it to local or azure."))
    port_text = env.get("LANDFALL_PORT", "7071")
    port = int(port_text) if port_text.isdecimal() else -1
    if not 0 <= port <= 65535:
        faults.append(
            Fault("LANDFALL_PORT", f"{port_text!r} is no port", "Set a number from 0 (any free port) to 65535.")
        )
    pace = _number(env.get("LANDFALL_PACE", "1"))
    if not 1 <= pace <= 3600:
        faults.append(
            Fault("LANDFALL_PACE", f"{env['LANDFALL_PACE']!r} is no pace", "Set a number from 1 (real time) to 3600.")
        )
    pipelines = ROOT / env.get("LANDFALL_PIPELINES", "pipelines")
    if not pipelines.is_dir():
        faults.append(
            Fault("LANDFALL_PIPELINES", f"there is no folder {pipelines}", "Name the folder that holds the pipelines.")
        )
    queue = env.get("LANDFALL_QUEUE", "embedded")
    if queue not in ("embedded", "storage"):
        faults.append(Fault("LANDFALL_QUEUE", f"{queue!r} is no queue", "Set it to embedded or storage."))
    if queue == "storage" and backend == "local" and not env.get("AzureWebJobsStorage"):
        faults.append(
            Fault("AzureWebJobsStorage", "the storage of the queue is not named", "Set its connection string.")
        )
    if backend == "azure":
        wanted = _ON_AZURE | _FOR_SETUP if for_setup else _ON_AZURE
        faults += [Fault(name, "is not set", cure) for name, cure in wanted.items() if not env.get(name)]
    if faults:
        raise ConfigurationError(faults)
    return Settings(
        backend=backend,
        home=ROOT / env.get("LANDFALL_HOME", ".landfall"),
        port=port,
        pipelines=pipelines,
        account=env.get("LANDFALL_LAKE_ACCOUNT", "landfall"),
        container=env.get("LANDFALL_LAKE_CONTAINER", "lake"),
        pace=pace,
        queue=queue,
        app_storage=env.get("AzureWebJobsStorage", ""),
        app_account=env.get("AzureWebJobsStorage__accountName", ""),
        client_id=env.get("AZURE_CLIENT_ID", ""),
        subscription=env.get("LANDFALL_SUBSCRIPTION", ""),
        resource_group=env.get("LANDFALL_RESOURCE_GROUP", ""),
        workspace=env.get("LANDFALL_WORKSPACE", ""),
        synapse=env.get("LANDFALL_SYNAPSE", ""),
        spark_pool=env.get("LANDFALL_SPARK_POOL", ""),
        events_topic=env.get("LANDFALL_EVENTS_TOPIC", ""),
        traces=env.get("APPLICATIONINSIGHTS_CONNECTION_STRING", ""),
        function_app=env.get("LANDFALL_FUNCTION_APP", ""),
        sql_pool=env.get("LANDFALL_SQL_POOL", ""),
    )


_ON_AZURE = {
    "LANDFALL_LAKE_ACCOUNT": "Name the storage account that data land in.",
    "AzureWebJobsStorage__accountName": "Name the storage account of the function app.",
    "LANDFALL_SUBSCRIPTION": "Set the id of the subscription that has the Azure ML workspace.",
    "LANDFALL_RESOURCE_GROUP": "Name the resource group of the Azure ML workspace.",
    "LANDFALL_WORKSPACE": "Name the Azure ML workspace.",
    "LANDFALL_SYNAPSE": "Name the Synapse workspace.",
    "LANDFALL_SPARK_POOL": "Name its Spark pool.",
    "LANDFALL_EVENTS_TOPIC": "Set the address of the Event Grid topic for what Landfall publishes (https://…).",
}
"""What the azure backend cannot do without, and what to do when it is not set."""
_FOR_SETUP = {"LANDFALL_FUNCTION_APP": "Name the function app that the events wake, see azd env get-values."}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def deployed_model() -> Path:
    """The folder in which an Azure ML deployment finds its model (AZUREML_MODEL_DIR)."""
    return Path(os.environ["AZUREML_MODEL_DIR"])


def cluster_identity() -> str:
    """The client id of the identity that an Azure ML cluster gives to a job (DEFAULT_IDENTITY_CLIENT_ID)."""
    return os.environ.get("DEFAULT_IDENTITY_CLIENT_ID", "")


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with ``additions``, for a process that it starts."""
    return {**os.environ, **additions}


def export(additions: Mapping[str, str]) -> None:
    """Put ``additions`` into this process's environment, for a library that reads it when it is imported."""
    os.environ.update(additions)
