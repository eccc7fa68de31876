"""JSON over HTTP for the http_ functions: answers, errors in words, and what operators ask for."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import azure.functions as func

if TYPE_CHECKING:
    from shared.domain.signals import Signal
    from shared.errors import LandfallError
    from shared.loop import Loop


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """``body`` as a JSON response."""
    from shared import fast_json

    return func.HttpResponse(fast_json.dumps(body), status_code=status, headers=headers, mimetype="application/json")


def refusal(status: int, code: str, message: str, **more: Any) -> func.HttpResponse:
    """An error response: {"error": {"code", "message", …}}."""
    return answer({"error": {"code": code, "message": message, **more}}, status)


def answering(work: Callable[[Loop], func.HttpResponse]) -> func.HttpResponse:
    """Run ``work`` on the loop and turn what it raises into a response; nothing of a traceback gets out."""
    from shared import bootstrap
    from shared.errors import LandfallError

    try:
        return work(bootstrap.loop())
    except LandfallError as error:
        return refusal(*status_of(error), str(error))
    except Exception:
        incident = uuid.uuid4().hex
        logging.exception("incident %s", incident)
        return refusal(500, "Unexpected", f"something went wrong; look for incident {incident} in the log")


def status_of(error: LandfallError) -> tuple[int, str]:
    """The status and the code in words of an error that Landfall raised on purpose."""
    from shared import errors

    answers: dict[type[LandfallError], tuple[int, str]] = {
        errors.Missing: (404, "NotFound"),
        errors.InvalidRequest: (400, "InvalidRequest"),
        errors.Refused: (409, "Refused"),
        errors.ConfigurationError: (409, "ConfigurationFault"),
        errors.Rejected: (400, "Rejected"),
    }
    return next((answer for kind, answer in answers.items() if isinstance(error, kind)), (503, "TryAgain"))


def operator(
    request: func.HttpRequest, make: Callable[[str, dict[str, Any], dict[str, Any]], Signal], *fields: str
) -> func.HttpResponse:
    """Put what a person asks for on the queue: 202 with the signal's key.

    ``make`` gets the pipeline's name, the JSON body and the common fields request, by, reason and at;
    ``fields`` are the body's other known fields, an unknown one is refused. A repeated request id
    (body field ``request`` or header x-request-id) is the same request and has no second effect.
    """
    from shared.errors import Rejected

    def work(loop: Loop) -> func.HttpResponse:
        name = request.route_params["name"]
        loop.catalog.get(name)
        body = _body(request)
        unknown = sorted(set(body) - {"request", "by", "reason", *fields})
        if unknown:
            known = ", ".join(sorted({"request", "by", "reason", *fields}))
            raise Rejected(f"unknown field {unknown[0]!r} in the request body; known: {known}")
        common = {
            "request": text(body, "request") or request.headers.get("x-request-id") or uuid.uuid4().hex[:12],
            "by": text(body, "by"),
            "reason": text(body, "reason"),
            "at": loop.ports.clock.now(),
        }
        signal = make(name, body, common)
        loop.ports.queue.send(signal)
        return answer({"signal": signal.claim_key, "request": common["request"]}, 202)

    return answering(work)


def text(body: dict[str, Any], field: str) -> str:
    """A field that holds a text or a whole number, empty when it is not there. Raises Rejected for anything else."""
    from shared.errors import Rejected

    value = body.get(field, "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected(f"field {field!r} of the request body must be a text or a whole number, not {_shown(value)}")
    return str(value)


def truth(body: dict[str, Any], field: str, *, default: bool) -> bool:
    """A field that holds true or false, ``default`` when it is not there. Raises Rejected for anything else."""
    from shared.errors import Rejected

    value = body.get(field, default)
    if not isinstance(value, bool):
        raise Rejected(f"field {field!r} of the request body must be true or false, not {_shown(value)}")
    return value


def whole(text: str) -> int:
    """A positive whole number from a query parameter. Raises Rejected for anything else."""
    from shared.errors import Rejected

    if not text.isdecimal() or int(text) < 1:
        raise Rejected(f"limit must be a positive whole number, not {text!r}")
    return int(text)


def _shown(value: Any) -> str:
    return json.dumps(value)[:100]


def _body(request: func.HttpRequest) -> dict[str, Any]:
    from shared.errors import Rejected

    raw = request.get_body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the request body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Rejected("the request body must be a JSON object")
    return body
