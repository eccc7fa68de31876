"""The managed-identity endpoint of an app, and the check of the tokens that it gave."""

from __future__ import annotations

import time

import jwt

from tests.standin.http import Problem, Request, Response

SECRET = "the stand-in signs with this and nothing else does"
HEADER = "0f0f0f0f-identity-header"
ML, ARM = "https://ml.azure.com", "https://management.azure.com"
SYNAPSE, EVENT_GRID = "https://dev.azuresynapse.net", "https://eventgrid.azure.net"
AUDIENCES = {ML, ARM, SYNAPSE, EVENT_GRID, "https://storage.azure.com", "https://monitor.azure.com"}


class Identity:
    """With ``client_id`` the app has that user-assigned identity and no other; asking without it is refused."""

    def __init__(self) -> None:
        self.client_id = ""
        self.object_id = "00000000-0000-0000-0000-00000000000b"
        self.asked: list[str] = []
        """The audiences that tokens were asked for."""

    def __call__(self, request: Request) -> Response:
        """GET /msi/token as App Service answers it."""
        if request.headers.get("x-identity-header") != HEADER:
            raise Problem(401, "Unauthorized", "the X-IDENTITY-HEADER is not the app's")
        if request.query.get("api-version") != "2019-08-01":
            raise Problem(400, "BadRequest", f"api-version {request.query.get('api-version')} is not known")
        audience = request.query.get("resource", "").rstrip("/")
        if audience not in AUDIENCES:
            raise Problem(400, "invalid_resource", f"no service has the audience {audience!r}")
        if request.query.get("client_id", "") != self.client_id:
            raise Problem(400, "BadRequest", "No managed identity of this app has that client_id")
        self.asked.append(audience)
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": "https://sts.windows.net/00000000-0000-0000-0000-00000000000a/",
            "nbf": now - 60,
            "iat": now - 60,
            "exp": now + 3600,
            "oid": self.object_id,
        }
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        return Response(
            body={
                "access_token": token,
                "expires_on": str(now + 3600),
                "resource": request.query["resource"],
                "token_type": "Bearer",
            }
        )


def check(request: Request, *audiences: str) -> None:
    """Refuse a call without a token for one of ``audiences``."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer":
        raise Problem(401, "AuthenticationFailed", f"{request.host} wants a Bearer token")
    try:
        jwt.decode(token, SECRET, algorithms=["HS256"], audience=list(audiences))
    except jwt.PyJWTError as error:
        raise Problem(401, "InvalidAuthenticationToken", f"{request.host} wants {audiences}: {error}") from error


def whose(request: Request) -> str:
    """The object id of who calls; empty without a token of ours."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return str(jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_aud": False}).get("oid", ""))
    except jwt.PyJWTError:
        return ""
