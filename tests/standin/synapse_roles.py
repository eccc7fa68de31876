"""The roles that a Synapse workspace keeps itself."""

from __future__ import annotations

import re
from typing import Any

from tests.standin import identity
from tests.standin.http import Handler, Problem, Request, Response
from tests.standin.identity import whose

VERSION = "2020-12-01"
ROLES = {
    "Synapse Compute Operator": "e3844cc7-4670-42cb-9349-9bdac1ee7881",
    "Synapse Credential User": "5eb298b4-692c-4241-9cf0-f58a3b42bb25",
}


class SynapseRoles:
    """Answers for roles, and lets ``rest`` answer all other calls to the workspace; Spark is for who has a role."""

    def __init__(self, rest: Handler) -> None:
        self._rest = rest
        self.given: dict[str, dict[str, Any]] = {}
        """What was given, by its id."""

    def __call__(self, request: Request) -> Response:
        """Any call to the workspace's development host."""
        kind, _, name = request.path.strip("/").partition("/")
        if kind == "livyApi" and whose(request) not in {given["principalId"] for given in self.given.values()}:
            raise Problem(403, "AccessDenied", "The principal does not have the required Synapse RBAC permission.")
        if kind not in ("roleAssignments", "roleDefinitions"):
            return self._rest(request)
        identity.check(request, identity.SYNAPSE, identity.SYNAPSE + "/")
        if request.query.get("api-version") != VERSION:
            raise Problem(400, "InvalidApiVersion", f"{request.query.get('api-version')!r} is not known")
        if kind == "roleDefinitions":
            return Response(body=[{"id": key, "name": role, "isBuiltIn": True} for role, key in ROLES.items()])
        if request.method == "PUT":
            return self._put(request, name)
        wanted = {key: value for key, value in request.query.items() if key != "api-version"}
        found = [given for given in self.given.values() if wanted.items() <= given.items()]
        return Response(body={"count": len(found), "value": found})

    def _put(self, request: Request, name: str) -> Response:
        body = request.json()
        if body.get("roleId") not in ROLES.values() or not re.fullmatch(r"[0-9a-f-]{36}", body.get("principalId", "")):
            raise Problem(400, "InvalidRequest", f"no role assignment: {body}")
        workspace = f"workspaces/{request.host.partition('.')[0]}"
        if body.get("scope") not in (workspace, f"{workspace}/credentials/WorkspaceSystemIdentity"):
            raise Problem(400, "InvalidRequest", f"no scope: {body.get('scope')!r}")
        self.given[name] = {"id": name, **body}
        return Response(200, self.given[name])
