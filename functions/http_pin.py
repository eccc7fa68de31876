"""Keep one version serving."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_pin")
@bp.route(route="pipelines/{name}/pin", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_pin(req: func.HttpRequest) -> func.HttpResponse:
    """Pin ``version`` whatever the gate says; without a version unpin."""
    from shared import http_api
    from shared.domain.signals import PinRequested

    return http_api.operator(
        req,
        lambda name, body, common: PinRequested(pipeline=name, version=http_api.text(body, "version"), **common),
        "version",
    )
