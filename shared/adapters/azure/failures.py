"""What the Azure clients raise, as errors of the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.domain.redaction import without_secrets
from shared.errors import Conflict, Forbidden, Missing, Rejected, Transient

_PASSING = {408, 423, 425, 429}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an Azure client's exception into ours; ``doing`` says what was tried, to which object.

    Raises Missing for 404, Conflict for 409 and 412, Transient for what can pass (no answer, throttled, a fault of the
    service; Forbidden for no token and for a role that is not given yet), Rejected for everything else.
    """
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        HttpResponseError,
        ResourceNotFoundError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        yield
    except ResourceNotFoundError as error:
        raise Missing(f"{doing}: it does not exist ({_short(error)})") from error
    except ClientAuthenticationError as error:
        raise Forbidden(
            f"{doing}: the app's identity got no token, or the service refuses it ({_short(error)}); "
            "run landfall doctor to see which role or setting is missing"
        ) from error
    except HttpResponseError as error:
        raise of_status(doing, error.status_code or 0, _short(error)) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise Transient(f"{doing}: no answer came ({_short(error)})") from error
    except AzureError as error:
        # What azure-ai-ml raises itself, of a thing that it will not send.
        raise Rejected(f"{doing}: {_short(error)}") from error


def of_status(doing: str, status: int, said: str) -> Exception:
    """The error for an HTTP status; ``said`` is the service's own text."""
    if status == 404:
        return Missing(f"{doing}: it does not exist ({said})")
    if status in (401, 403):
        return Forbidden(f"{doing}: the service refuses the app's identity ({said}); run landfall doctor for the role")
    if status in (409, 412):
        return Conflict(f"{doing}: it was changed or exists already ({said})")
    if status in _PASSING or status >= 500 or not status:
        return Transient(f"{doing}: the service cannot do it now, it answered {status} ({said})")
    return Rejected(f"{doing}: the service refuses it, it answered {status} ({said})")


def _short(error: Exception) -> str:
    """The first lines of a message; the rest of one is a dump of the answer."""
    lines = [line.strip() for line in str(getattr(error, "message", None) or error).splitlines() if line.strip()]
    return without_secrets(" ".join(lines[:3]))[:500]
