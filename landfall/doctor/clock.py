"""This machine's clock beside Azure's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from landfall.doctor.finding import Check, Finding
from landfall.setup.estate import Estate
from shared.adapters.azure.workspace import ARM
from shared.errors import Transient

MOST_SECONDS = 60


def clock(estate: Estate) -> Check:
    """Tokens and signatures are refused from five minutes on; drift and schedules suffer earlier."""

    def look() -> Iterator[Finding]:
        import httpx

        try:
            answer = estate.workspace.http.get(f"{ARM}/metadata/endpoints?api-version=2020-01-01")
        except httpx.HTTPError as error:
            raise Transient(f"ask Azure for the time: no answer came ({error})") from error
        theirs = answer.headers.get("date")
        if not theirs:
            raise Transient("ask Azure for the time: the answer has no date")
        ahead = (datetime.now(UTC) - parsedate_to_datetime(theirs)).total_seconds()
        if abs(ahead) <= MOST_SECONDS:
            yield check.ok("agrees with Azure's")
            return
        what = f"it is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Azure's"
        yield check.wrong(what, "Switch on time synchronisation, for example: timedatectl set-ntp true.")

    check = Check(
        name="clock",
        subject="this machine",
        look=look,
        cure="Let this machine call management.azure.com, directly or through the proxy that HTTPS_PROXY names.",
    )
    return check
