"""Every decision about one thing."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_why")
@bp.route(route="why/{*subject}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def http_why(req: func.HttpRequest) -> func.HttpResponse:
    """Decisions about a file, a run, a batch or a model version (name:3), oldest first, with what it led to."""
    from shared import history, http_api

    subject = req.route_params["subject"]
    return http_api.answering(lambda loop: http_api.answer(history.why(loop, subject)))
