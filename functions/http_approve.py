"""Let a version roll out, or turn it down."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_approve")
@bp.route(route="pipelines/{name}/approve", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_approve(req: func.HttpRequest) -> func.HttpResponse:
    """Approve ``version``, or with ``approved`` false turn it down."""
    from shared import http_api
    from shared.domain.signals import ApprovalGiven

    return http_api.operator(
        req,
        lambda name, body, common: ApprovalGiven(
            pipeline=name,
            version=http_api.text(body, "version"),
            approved=http_api.truth(body, "approved", default=True),
            **common,
        ),
        "version",
        "approved",
    )
