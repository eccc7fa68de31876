"""Everything that setup sees to, in the order in which one thing needs another."""

from __future__ import annotations

from landfall.setup.artifact import artifacts_of
from landfall.setup.cluster import Cluster
from landfall.setup.connection import Connection
from landfall.setup.container import Container
from landfall.setup.datastore import Datastore
from landfall.setup.endpoint import Endpoint
from landfall.setup.environment import Environment
from landfall.setup.estate import Estate
from landfall.setup.resource import Resource
from landfall.setup.role import GRANTS, RoleAssignment
from landfall.setup.spark_pool import SparkPool
from landfall.setup.subscription import DEAD_LETTERS, TABLE, Subscription
from landfall.setup.synapse_role import OWN_IDENTITY, PIPELINES, SPARK, SynapseRole
from landfall.setup.system_topic import STORAGE_TOPIC, WORKSPACE_TOPIC, SystemTopic
from shared.adapters.azure.endpoint_names import online_endpoint
from shared.definitions.catalog import Catalog
from shared.errors import ConfigurationError, Fault
from shared.settings import Settings


def resources(settings: Settings, estate: Estate | None = None) -> list[Resource]:
    """What the loop of these settings and their pipelines needs, on an estate of theirs. Nothing is called yet.

    Raises ConfigurationError when the settings are none of an app on Azure.
    """
    check_settings(settings)
    estate = estate or Estate(settings)
    folders = Catalog(settings.pipelines).all()
    clusters = sorted({folder.pipeline.training.compute for folder in folders})
    made: list[Resource] = [
        Container(estate, settings.container),
        Container(estate, DEAD_LETTERS),
        SystemTopic(estate, estate.lake, STORAGE_TOPIC),
        SystemTopic(estate, estate.workspace.path, WORKSPACE_TOPIC),
        *(Cluster(estate, name) for name in clusters),
        SparkPool(estate),
    ]
    for grant in GRANTS:
        of = clusters if grant.who == "jobs" else [""]
        made += [RoleAssignment(estate, grant, cluster) for cluster in of]
    made += [
        SynapseRole(estate, SPARK),
        SynapseRole(estate, PIPELINES, OWN_IDENTITY),
        *artifacts_of(estate),
        Connection(estate),
        Datastore(estate),
        *(Environment(estate, folder) for folder in folders),
        *(
            Endpoint(estate, online_endpoint(name, estate.workspace.path))
            for name in sorted({folder.pipeline.endpoint for folder in folders})
        ),
        *(Subscription(estate, events) for events in TABLE),
    ]
    return made


def check_settings(settings: Settings) -> None:
    """Raises ConfigurationError when the settings are none of an app on Azure."""
    faults = []
    if settings.backend != "azure":
        faults.append(
            Fault(
                "LANDFALL_BACKEND",
                "is local: a laptop needs no setup",
                "For Azure, azd up comes first, then its settings: docs/deploying.md.",
            )
        )
    elif not settings.function_app:
        faults.append(
            Fault(
                "LANDFALL_FUNCTION_APP",
                "is not set",
                "Name the function app that the events wake, see azd env get-values.",
            )
        )
    if faults:
        raise ConfigurationError(faults)
