"""How long a call to a storage service may take, and how often it is repeated."""

from __future__ import annotations

import logging
from typing import Any

from shared.errors import Transient

SECONDS = 10.0
"""One attempt's time to connect, and to answer. All attempts of a call together end in about three times that."""
LONGEST_WAIT = 5.0
"""A service that asks for a longer pause than these seconds is asked again by the queue."""
ATTEMPTS = 4


def options(seconds: float = SECONDS) -> dict[str, Any]:
    """Arguments for a client of blobs, queues or tables.

    With them every call is repeated when no answer comes or it is 408, 429 or 5xx, after the pause that the
    service asks for, and ends long before a queue message that is being handled becomes visible again.
    An adapter whose call must not take effect twice marks what it writes and looks for its mark.
    """
    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.pipeline.transport import RequestsTransport

    class Transport(RequestsTransport):
        def sleep(self, duration: float) -> None:
            if duration > LONGEST_WAIT:
                raise Transient(f"the storage service asks to wait {duration:g} s; the queue tries again later")
            super().sleep(duration)

    class Retries(RetryPolicy):
        def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
            # The clients of blobs and queues are made for a policy of their own, which waits 15 s, does not repeat
            # after 429 and heeds no Retry-After: they leave options to it, and read the mode from its answer.
            for name in ("hosts", "retry_to_secondary", "retry_hook"):
                request.context.options.pop(name, None)
            mode = request.context.options.pop("location_mode", "primary")
            response = super().send(request)
            response.http_response.location_mode = mode
            return response

    quiet()
    retries = {
        "retry_total": ATTEMPTS - 1,
        "retry_backoff_factor": 0.3,
        "retry_backoff_max": 3,
        "timeout": int(seconds * 2) or 1,
    }
    # The clients of blobs and queues take a policy, those of tables make one of these arguments.
    return {
        **retries,
        "retry_policy": Retries(**retries),
        "transport": Transport(connection_timeout=seconds, read_timeout=seconds),
    }


def quiet() -> None:
    """Keep what the clients tell of every single request out of a log that does not ask for it.

    Addresses are among it, and those of job logs are signed.
    """
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity", "httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
