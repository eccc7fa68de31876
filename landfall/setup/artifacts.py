"""The artifacts of a Synapse workspace, as the JSON that Synapse keeps of them."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import careful_retries
from shared.errors import Missing

if TYPE_CHECKING:
    from azure.synapse.artifacts import ArtifactsClient

SECONDS = 60.0
What = Literal["linked_service", "dataset", "pipeline"]
"""The kinds of artifacts, in the words of the client."""


class Artifacts:
    """Linked services, datasets and pipelines."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate

    def find(self, what: What, name: str) -> dict[str, Any] | None:
        """Its properties; None when there is none of that name."""
        try:
            with translated(f"look up Synapse {what.replace('_', ' ')} {name}"):
                found = getattr(getattr(self._client, what), f"get_{what}")(name)
        except Missing:
            return None
        return dict(found.serialize()["properties"])

    def put(self, what: What, name: str, properties: dict[str, Any]) -> None:
        """Make it, or put it in the place of the present one, and wait until it is so."""
        from azure.synapse.artifacts import models

        # What the client reads it empties of the types in it.
        properties = deepcopy(properties)
        # A linked service and a dataset are sent without their envelope, which the client adds; a pipeline with it.
        entity: Any
        match what:
            case "linked_service":
                entity = models.LinkedService.deserialize(properties)
            case "dataset":
                entity = models.Dataset.deserialize(properties)
            case _:
                entity = models.PipelineResource.deserialize({"properties": properties})
        with translated(f"make Synapse {what.replace('_', ' ')} {name}"):
            getattr(getattr(self._client, what), f"begin_create_or_update_{what}")(name, entity).result()

    @cached_property
    def _client(self) -> ArtifactsClient:
        from azure.synapse.artifacts import ArtifactsClient

        return ArtifactsClient(
            self._estate.credential,
            f"https://{self._estate.settings.synapse}.dev.azuresynapse.net",
            retry_policy=careful_retries(SECONDS),
            connection_timeout=SECONDS,
            read_timeout=SECONDS,
        )
