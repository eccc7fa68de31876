"""Azure Resource Manager, for what no client library of ours reaches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.failures import of_status
from shared.adapters.azure.workspace import ARM, LONGEST_WAIT, Workspace
from shared.errors import Missing, Rejected, Transient

if TYPE_CHECKING:
    import httpx

ENDED = ("Succeeded", "Failed", "Canceled")
TRIES, MINUTES, LONGEST_PAUSE = 4, 20, 5.0


class Arm:
    """Calls with the identity of a workspace's client. Raises errors of :mod:`shared.errors`.

    Every call may be repeated: a PUT says what should be there. It is, after no answer, 429 or 5xx.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, path: str, version: str, **query: str) -> dict[str, Any]:
        """A resource. Raises Missing when it does not exist."""
        return self._call("GET", path, version, query)

    def find(self, path: str, version: str) -> dict[str, Any] | None:
        """A resource; None when it does not exist."""
        try:
            return self.get(path, version)
        except Missing:
            return None

    def list(self, path: str, version: str, **query: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        page = self.get(path, version, **query)
        found = list(page.get("value", []))
        while link := page.get("nextLink"):
            page = self._answer("GET", link, None, f"read on in {_short(path)}").json()
            found += page.get("value", [])
        return found

    def post(self, path: str, version: str) -> dict[str, Any]:
        """What an action on a resource answers, for example a list that Azure shows by POST only."""
        return self._call("POST", path, version, {})

    def put(self, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make or change a resource, and wait until it is so. Raises Rejected when it failed."""
        return self._change("PUT", path, version, body)

    def patch(self, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change some fields of a resource, and wait as :meth:`put` does."""
        return self._change("PATCH", path, version, body)

    def _change(self, method: str, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        made = self._call(method, path, version, {}, body)
        until, pause = time.monotonic() + MINUTES * 60, 0.2
        while (state := _state(made)) not in ENDED:
            if time.monotonic() > until:
                raise Transient(f"make {_short(path)}: it is still {state} after {MINUTES} minutes; run it again later")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
            made = self.get(path, version)
        if state != "Succeeded":
            raise Rejected(f"make {_short(path)}: it ended as {state}; the portal's activity log says why")
        return made

    def _call(
        self, method: str, path: str, version: str, query: dict[str, str], body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        from urllib.parse import urlencode

        url = f"{ARM}{path}?{urlencode({'api-version': version, **query})}"
        doing = {"GET": "read", "PUT": "make", "PATCH": "change", "POST": "ask for"}[method]
        answer = self._answer(method, url, body, f"{doing} {_short(path)}")
        return answer.json() if answer.content else {}

    def _answer(self, method: str, url: str, body: dict[str, Any] | None, doing: str) -> httpx.Response:
        import httpx

        for left in reversed(range(TRIES)):
            wait = 0.4 * (TRIES - left)
            try:
                answer = self._workspace.http.request(
                    method, url, json=body, headers={"Authorization": f"Bearer {self._workspace.token(ARM)}"}
                )
            except httpx.HTTPError as error:
                if not left:
                    raise Transient(f"{doing}: no answer came ({error})") from error
            else:
                if answer.is_success:
                    return answer
                asked = float(answer.headers.get("retry-after", "0")) if answer.status_code == 429 else 0.0
                if not left or (answer.status_code != 429 and answer.status_code < 500) or asked > LONGEST_WAIT:
                    raise of_status(doing, answer.status_code, _said(answer))
                wait = max(wait, asked)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _state(resource: dict[str, Any]) -> str:
    """How its making goes; what has no such state was made at once."""
    properties = resource.get("properties")
    return (properties or {}).get("provisioningState") or "Succeeded"


def _said(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['code']}: {error['message']}"[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


def _short(path: str) -> str:
    """A resource's type and names, without subscription and group."""
    return path.rpartition("/providers/")[2] or path
