"""The Azure ML workspace: one client for all adapters that speak to it, made on first use."""

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.adapters.azure import patience
from shared.adapters.azure.failures import translated

if TYPE_CHECKING:
    import httpx
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

ARM, SCORING = "https://management.azure.com", "https://ml.azure.com"
"""Audiences of tokens: of the control plane and run history, and of online endpoints."""
LONGEST_WAIT = 10.0
"""A service that asks to wait longer than these seconds is asked again by the queue."""
EARLY = 300


class Workspace:
    """A workspace by its names. ``seconds`` is how long one call may take to answer.

    Reads are repeated when they fail. A write is repeated only when the service said 429, because then
    it had no effect; after any other failure its adapter looks whether it had one. With that no call of
    an adapter takes longer than a minute or two, which is below the visibility time of a queue message.
    """

    def __init__(
        self,
        subscription: str,
        resource_group: str,
        name: str,
        credential: TokenCredential,
        *,
        seconds: float = 20.0,
    ) -> None:
        self.name = name
        self.credential = credential
        self._subscription, self._resource_group = subscription, resource_group
        self._seconds = seconds
        self._lock = threading.Lock()
        self._client: MLClient | None = None
        self._tokens: dict[str, tuple[str, float]] = {}

    @property
    def client(self) -> MLClient:
        """The SDK's client; importing it takes seconds, so it is done when first needed."""
        with self._lock:
            if self._client is None:
                from azure.ai.ml import MLClient

                # It prints its experimental classes, a line at every look at a job, and each look-up that finds
                # nothing as an error. What matters it raises.
                for logger in filter(lambda name: name.startswith("azure.ai.ml"), logging.root.manager.loggerDict):
                    logging.getLogger(logger).setLevel(logging.CRITICAL)
                self._client = MLClient(
                    self.credential,
                    self._subscription,
                    self._resource_group,
                    self.name,
                    show_progress=False,
                    enable_telemetry=False,
                    retry_policy=careful_retries(self._seconds),
                    connection_timeout=self._seconds,
                    read_timeout=self._seconds,
                )
            return self._client

    @cached_property
    def http(self) -> httpx.Client:
        """For what the SDK does badly or not at all; keeps its connections open."""
        import httpx

        patience.quiet()
        return httpx.Client(timeout=self._seconds)

    @cached_property
    def api(self) -> str:
        """The address of the workspace's data plane. Raises Transient when it cannot be asked for."""
        from httpx import HTTPError

        from shared.errors import Transient

        with translated(f"read workspace {self.name}"):
            discovery = self.client.workspaces.get(self.name).discovery_url
        try:
            answer = self.http.get(str(discovery)).raise_for_status()
        except HTTPError as error:
            raise Transient(f"discover the data plane of workspace {self.name}: {error}") from error
        return str(answer.json()["api"])

    @property
    def path(self) -> str:
        """The workspace's Azure resource id."""
        return (
            f"/subscriptions/{self._subscription}/resourceGroups/{self._resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    def token(self, audience: str) -> str:
        """A token for an audience, kept until it is nearly over. Raises Forbidden or Transient when none can be had."""
        token, until = self._tokens.get(audience, ("", 0.0))
        if time.time() > until - EARLY:
            with translated(f"get a token for {audience}"):
                got = self.credential.get_token(f"{audience}/.default")
            token, until = got.token, float(got.expires_on)
            self._tokens[audience] = (token, until)
        return token


def careful_retries(seconds: float) -> Any:
    """A retry policy that repeats reads, and writes only after 429: nothing is done twice without being looked up."""
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import RetryPolicy

    class CarefulRetries(RetryPolicy):
        def configure_retries(self, options: dict[str, Any]) -> dict[str, Any]:
            return {**super().configure_retries(options), "methods": frozenset({"GET", "HEAD"})}

        def is_retry(self, settings: dict[str, Any], response: PipelineResponse) -> bool:
            status, method = response.http_response.status_code, response.http_request.method
            if (self.get_retry_after(response) or 0) > LONGEST_WAIT:
                return False
            if status != 429 and method not in ("GET", "HEAD"):
                return False
            return bool(settings["total"]) and status in self._retry_on_status_codes

    return CarefulRetries(retry_total=3, retry_backoff_factor=0.4, retry_backoff_max=4, timeout=int(seconds * 3) or 1)
