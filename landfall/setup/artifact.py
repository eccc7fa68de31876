"""What setup keeps in the Synapse workspace: linked services, datasets, and the pipeline of batch scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.artifacts import Artifacts, What
from landfall.setup.estate import Estate
from shared.adapters.azure import batch_pipeline


@dataclass(frozen=True)
class Artifact:
    """An artifact with the JSON ``properties``; nothing in it is a secret, all are opened with managed identities."""

    artifacts: Artifacts
    what: What
    name: str
    properties: dict[str, Any]

    @property
    def kind(self) -> str:
        return f"Synapse {self.what.replace('_', ' ')}"

    def desired(self) -> dict[str, Any]:
        return self.properties

    def actual(self) -> dict[str, Any] | None:
        there = self.artifacts.find(self.what, self.name)
        return None if there is None else _of_interest(there, self.properties)

    def apply(self) -> None:
        self.artifacts.put(self.what, self.name, self.properties)


def _of_interest(there: Any, wanted: Any) -> Any:
    """What ``wanted`` speaks of: Synapse adds fields of its own, and leaves out what is empty."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        empty = {key: value for key, value in wanted.items() if key not in there and value in ([], {}, "")}
        return {**{key: _of_interest(there[key], wanted[key]) for key in wanted if key in there}, **empty}
    if isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        return [_of_interest(one, other) for one, other in zip(there, wanted, strict=True)]
    return there


def artifacts_of(estate: Estate) -> list[Artifact]:
    """All of them, in the order in which they refer to each other; with a SQL pool, batch scoring gets at it."""
    settings, store = estate.settings, Artifacts(estate)
    sql = bool(settings.sql_pool)
    services = batch_pipeline.linked_services(settings.account, settings.synapse, settings.sql_pool)
    pipeline = batch_pipeline.batch_scoring_pipeline(settings.container, sql=sql)
    return [
        Artifact(store, "linked_service", "AzureMLLinkedService", azure_ml(estate)),
        *(Artifact(store, "linked_service", name, made) for name, made in services.items()),
        *(
            Artifact(store, "dataset", name, made)
            for name, made in batch_pipeline.datasets(settings.container, sql=sql).items()
        ),
        Artifact(store, "pipeline", batch_pipeline.PIPELINE, pipeline),
    ]


def azure_ml(estate: Estate) -> dict[str, Any]:
    """The linked service of the Azure ML workspace; ``authentication`` MSI is all that keeps a secret out of it."""
    return {
        "type": "AzureMLService",
        "annotations": ["landfall"],
        "typeProperties": {
            "subscriptionId": estate.settings.subscription,
            "resourceGroupName": estate.settings.resource_group,
            "mlWorkspaceName": estate.settings.workspace,
            "authentication": "MSI",
        },
    }
