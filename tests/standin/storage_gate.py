"""The door of the storage emulator, which takes any token: here an identity also needs a role."""

from __future__ import annotations

import ssl
from urllib.parse import quote, urlencode

import httpx

from tests.standin.blobs import Storage
from tests.standin.http import Problem, Request, Response
from tests.standin.identity import whose
from tests.standin.resource_manager import HOME, ResourceManager

READER, CONTRIBUTOR, OWNER = (
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
)
QUEUE, TABLE = "974c5e8b-45b9-4653-ba55-5f855dd0fb88", "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3"
NOT_SENT_ON = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "keep-alive", "date"}


class StorageGate:
    """Any call to blobs, queues and tables of ``storage``; the roles are those that Resource Manager was told."""

    def __init__(self, storage: Storage, arm: ResourceManager) -> None:
        self._storage, self._arm = storage, arm
        trust = ssl.create_default_context(cadata=storage.authority.decode())
        self._http = httpx.Client(verify=trust, trust_env=False, timeout=30)

    def __call__(self, request: Request) -> Response:
        """Let in, and ask the emulator, or refuse as Azure does."""
        service = request.host.split(".")[1]
        container = request.path.lstrip("/").partition("/")[0]
        scope = f"{HOME}/Microsoft.Storage/storageAccounts/{request.host.partition('.')[0]}"
        if service == "blob":
            scope += f"/blobServices/default/containers/{container}"
        # The service itself comes with the account's key, or has signed an address with it.
        signed = "sig" in request.query or request.headers.get("authorization", "").startswith("SharedKey")
        if not signed and not self._allowed(request, service, scope):
            raise Problem(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
                {"x-ms-error-code": "AuthorizationPermissionMismatch"},
            )
        port = {"blob": self._storage.blob, "queue": self._storage.queue, "table": self._storage.table}[service]
        answer = self._http.request(
            request.method,
            f"https://127.0.0.1:{port}{quote(request.path, safe='/()=,$')}?{urlencode(request.query)}",
            content=request.body,
            headers={
                **{name: value for name, value in request.headers.items() if name not in NOT_SENT_ON},
                "host": request.host,
            },
        )
        headers = {name: value for name, value in answer.headers.items() if name not in NOT_SENT_ON}
        return Response(answer.status_code, answer.content, headers)

    def _allowed(self, request: Request, service: str, scope: str) -> bool:
        reading = request.method in ("GET", "HEAD")
        wanted = {
            "blob": {CONTRIBUTOR, OWNER, *([READER] if reading else [])},
            "queue": {QUEUE},
            "table": {TABLE},
        }[service]
        for given in self._arm.assignments(whose(request)):
            properties = given["properties"]
            role = properties["roleDefinitionId"].rpartition("/")[2]
            if role in wanted and f"{scope}/".lower().startswith(f"{properties['scope']}/".lower()):
                return True
        return False
