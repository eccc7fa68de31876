"""Check for drift now."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_drift")
@bp.route(route="pipelines/{name}/drift", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_drift(req: func.HttpRequest) -> func.HttpResponse:
    """Compare the prediction log up to now with the reference profile."""
    from shared import http_api
    from shared.domain.signals import DriftCheckDue

    return http_api.operator(
        req,
        lambda name, body, common: DriftCheckDue(
            pipeline=name, slot=common["at"], request=common["request"], by=common["by"], reason=common["reason"]
        ),
    )
