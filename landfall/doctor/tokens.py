"""A token for every service that the app calls, and whose it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from landfall.doctor.finding import Check, Finding
from landfall.setup.estate import Estate
from landfall.setup.synapse_role import AUDIENCE as SYNAPSE
from shared.adapters.azure.workspace import ARM, SCORING
from shared.domain.redaction import without_secrets
from shared.errors import Forbidden, LandfallError

STORAGE, EVENT_GRID, MONITOR = "https://storage.azure.com", "https://eventgrid.azure.net", "https://monitor.azure.com"
USES = {
    ARM: "Azure Resource Manager, and with it Azure ML",
    SCORING: "online and batch endpoints",
    STORAGE: "lake, queue and ledger",
    SYNAPSE: "Spark and pipelines of Synapse",
    EVENT_GRID: "publishing to the topic",
    MONITOR: "traces",
}


class Tokens:
    """The checks of all audiences; ``refused`` are those that gave no token, once the checks have run."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self.refused: set[str] = set()

    def checks(self) -> Iterator[Check]:
        """One for each audience that these settings need."""
        for audience, use in USES.items():
            if audience != MONITOR or self._estate.settings.traces:
                yield self._check(audience, use)

    def _check(self, audience: str, use: str) -> Check:
        def look() -> Iterator[Finding]:
            try:
                token = self._estate.workspace.token(audience)
            except Forbidden as error:
                self.refused.add(audience)
                reason = " ".join(str(error.__cause__ or error).split())
                yield check.wrong(f"there is none: {without_secrets(reason)}", cure)
                return
            except LandfallError:
                self.refused.add(audience)
                raise
            yield check.ok(f"for {use}, as {who(token)}")

        client = self._estate.settings.client_id
        now = f"It is {client} now." if client else "It is not set now."
        cure = (
            "On your own machine: az login. In Azure: give the app an identity and set AZURE_CLIENT_ID to the client id"
            f" of it if it is a user-assigned one, and to nothing otherwise. {now}"
        )
        check = Check(name="token", subject=audience, look=look)
        return check


def runs_as_app(estate: Estate) -> bool:
    """Whether doctor has the identity of the app. Raises Missing and Forbidden when the app cannot be looked at."""
    return object_id(estate.workspace.token(ARM)) == estate.app_principal


def object_id(token: str) -> str:
    """The object id of whose token it is."""
    return str(_claims(token).get("oid", "unknown"))


def who(token: str) -> str:
    """Whose token it is, in words for people; its claims are read, not verified."""
    claims = _claims(token)
    name = claims.get("upn") or claims.get("appid") or claims.get("azp") or ""
    return f"{name} (object {object_id(token)})" if name else f"object {object_id(token)}"


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (IndexError, ValueError):
        return {}
