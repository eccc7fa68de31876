"""Train again by hand."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_retrain")
@bp.route(route="pipelines/{name}/retrain", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_retrain(req: func.HttpRequest) -> func.HttpResponse:
    """Ask for a run on what has landed so far."""
    from shared import http_api
    from shared.domain.signals import RetrainingDue

    return http_api.operator(
        req,
        lambda name, body, common: RetrainingDue(
            pipeline=name, cause="hand", slot=common["request"], reason=common["reason"] or "asked for by hand"
        ),
    )
