"""The hosts that online endpoints are asked at: traffic split, Entra tokens, and the model's own errors as 424."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate

from tests.standin import identity
from tests.standin.http import Problem, Request, Response
from tests.standin.online_endpoints import Deployment, Endpoint, OnlineEndpoints

Scorer = Callable[[Endpoint, Deployment, bytes], tuple[int, bytes]]


def unscored(endpoint: Endpoint, deployment: Deployment, body: bytes) -> tuple[int, bytes]:
    """What a deployment answers when a test did not say what it should."""
    return 500, b"no scorer was given to the stand-in"


class Inference:
    """``scorer`` answers for the container of a deployment: a status and a body."""

    def __init__(self, endpoints: OnlineEndpoints) -> None:
        self._endpoints = endpoints
        self.scorer: Scorer = unscored

    def __call__(self, request: Request) -> Response:
        """POST /score."""
        name = request.host.partition(".")[0]
        with self._endpoints.ml.lock:
            endpoint = next((e for e in self._endpoints.all.values() if e.name.lower() == name), None)
            if endpoint is None or request.path != "/score" or request.method != "POST":
                raise Problem(404, "NotFound", f"nothing answers {request.method} {request.host}{request.path}")
            if endpoint.properties["authMode"] != "AADToken":
                raise Problem(401, "Unauthorized", f"endpoint {name} wants another kind of key")
            identity.check(request, identity.ML)
            deployment = self._choose(endpoint, request.headers.get("azureml-model-deployment"))
        status, body = self.scorer(endpoint, deployment, request.body)
        headers = {"azureml-model-deployment": deployment.name, "content-type": "application/json"}
        if status != 200:
            headers["ms-azureml-model-error-statuscode"] = str(status)
            return Response(424, body, headers)
        return Response(200, body, headers)

    def _choose(self, endpoint: Endpoint, wanted: str | None) -> Deployment:
        if wanted is None:
            if not endpoint.traffic:
                raise Problem(404, "NotFound", "No valid deployments to route to: none has positive traffic")
            shares = endpoint.traffic
            (wanted,) = random.choices(list(shares), cum_weights=list(accumulate(shares.values())))
        deployment = endpoint.deployments.get(wanted)
        if deployment is None or deployment.state not in ("Succeeded", "Updating"):
            raise Problem(404, "NotFound", f"endpoint {endpoint.name} has no deployment {wanted} that can serve")
        return deployment
