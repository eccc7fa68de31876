"""Scoring over HTTP: a request's body and headers in, a response out, whatever happens."""

from __future__ import annotations

import logging
import random

import azure.functions as func

from shared import bootstrap, fast_json, http_api
from shared.errors import InvalidRequest, LandfallError
from shared.scoring import answering, number_rows
from shared.scoring.request_forms import TooManyRows

MAX_BYTES = 10 * 2**20
"""A longer request body is refused; batch scoring takes files of any size."""


def answer(request: func.HttpRequest) -> func.HttpResponse:
    """Answer rows with the live model of the pipeline in the route; errors in words.

    The forms of a request are those of :func:`shared.scoring.answering.score`.

    The header azureml-model-deployment or x-landfall-deployment chooses a deployment whatever its traffic;
    x-request-id names the request in the answer and in the prediction log. The answer's headers
    x-landfall-model-version and x-landfall-deployment say who answered.
    """
    asked = request.headers.get("x-request-id", "")
    good = 0 < len(asked) <= 100 and asked.isascii() and asked.isprintable()
    # A name that nobody else has, and no secret: the system's entropy costs more than reading the request.
    request_id = asked if good else f"{random.getrandbits(128):032x}"
    named = {"x-request-id": request_id}

    def refusal(status: int, code: str, message: str, **more: object) -> func.HttpResponse:
        error = {"code": code, "message": message, "request_id": request_id, **more}
        return http_api.answer({"error": error}, status, {**named, **({"Retry-After": "1"} if status == 503 else {})})

    deployment = request.headers.get("azureml-model-deployment") or request.headers.get("x-landfall-deployment")
    body = request.get_body()
    if len(body) > MAX_BYTES:
        message = f"the request has {len(body):,} bytes; up to {MAX_BYTES:,} are taken. Ask for batch scoring of a file"
        return refusal(413, "TooLarge", message)
    try:
        payload = number_rows.read(body) or fast_json.loads(body)
    except (ValueError, RecursionError) as error:
        return refusal(400, "InvalidRequest", f"the request body is no JSON: {error}", faults=[])
    try:
        result = answering.score(
            bootstrap.loop(), request.route_params["name"], payload, deployment=deployment, request_id=request_id
        )
    except TooManyRows as error:
        return refusal(413, "TooLarge", str(error))
    except LandfallError as error:
        status, code = http_api.status_of(error)
        named_faults = {"faults": error.faults} if isinstance(error, InvalidRequest) else {}
        return refusal(status, code, str(error), **named_faults)
    except Exception:
        logging.exception("scoring request %s of pipeline %s", request_id, request.route_params["name"])
        return refusal(500, "Unexpected", f"something went wrong; look for request {request_id} in the log")
    headers = {"x-landfall-model-version": result["model"]["version"], "x-landfall-deployment": result["deployment"]}
    return http_api.answer(result, 200, {**named, **headers})
