"""Spans to Application Insights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import settings
from shared.adapters.azure.credential import AppCredential

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


OFF = (
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
)


def provider(connection: str, client_id: str = "") -> TracerProvider:
    """A provider whose spans go to the Application Insights of ``connection``, signed with the app's identity.

    They are sent in the background, a batch at a time; what cannot be sent is dropped and hinders nobody. The
    exporter's own reports and remote configuration are off, so nothing else is called.
    """
    settings.export({name: "true" for name in OFF})
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = AzureMonitorTraceExporter(
        connection_string=connection, credential=AppCredential(client_id), disable_offline_storage=True
    )
    made = TracerProvider(resource=Resource.create({"service.name": "landfall"}))
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made
