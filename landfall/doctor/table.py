"""All checks of an installation, in the order in which a reader mends what they find."""

from __future__ import annotations

from landfall.doctor.app import app_settings, functions, identity
from landfall.doctor.clock import clock
from landfall.doctor.endpoints import compute, endpoint, quota
from landfall.doctor.finding import Finding, examine
from landfall.doctor.installation import as_set_up, landing_paths
from landfall.doctor.laptop import disk, pipelines, port, python
from landfall.doctor.services import spark_pool, workspace
from landfall.doctor.storage import blobs, queue, table
from landfall.doctor.tokens import Tokens
from landfall.setup.estate import Estate
from landfall.setup.subscription import LANDING
from landfall.setup.table import resources
from shared.definitions.catalog import Catalog
from shared.errors import ConfigurationError
from shared.settings import Settings


def of_laptop(settings: Settings) -> list[Finding]:
    """What is found where the loop runs here."""
    return examine([python(), disk(settings), port(settings), pipelines(settings)])


def of_azure(settings: Settings) -> list[Finding]:
    """What is found of an app on Azure."""
    estate, catalog = Estate(settings), Catalog(settings.pipelines)
    tokens = Tokens(estate)
    valid = [folder.pipeline for folder in catalog.all()]
    checks = [
        pipelines(settings),
        landing_paths(catalog, LANDING),
        clock(estate),
        *tokens.checks(),
        identity(estate),
        app_settings(estate),
        functions(estate),
        blobs(estate),
        queue(estate),
        table(estate),
        workspace(estate),
        spark_pool(estate),
        *(compute(estate, name) for name in sorted({pipeline.training.compute for pipeline in valid})),
        quota(estate),
        *(endpoint(estate, pipeline) for pipeline in valid),
        *(as_set_up(resource) for resource in resources(settings, estate)),
    ]
    return examine(checks, lambda: tokens.refused)


def of_faults(error: ConfigurationError) -> list[Finding]:
    """Faults of the settings, which leave nothing else to examine than this machine's Python."""
    found = [
        Finding(check="settings", subject=fault.where, state="wrong", what=fault.what, cure=fault.cure)
        for fault in error.faults
    ]
    return [*found, *examine([python()])]
