"""Stop or resume a pipeline."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_freeze")
@bp.route(route="pipelines/{name}/freeze", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_freeze(req: func.HttpRequest) -> func.HttpResponse:
    """Hold training and rollouts, or with ``frozen`` false go on."""
    from shared import http_api
    from shared.domain.signals import FreezeRequested

    return http_api.operator(
        req,
        lambda name, body, common: FreezeRequested(
            pipeline=name, frozen=http_api.truth(body, "frozen", default=True), **common
        ),
        "frozen",
    )
