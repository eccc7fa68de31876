"""What the loop is doing."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_status")
@bp.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def http_status(req: func.HttpRequest) -> func.HttpResponse:
    """The status of every pipeline, see :func:`shared.status.status`."""
    from shared import http_api, status

    return http_api.answering(lambda loop: http_api.answer(status.status(loop)))
