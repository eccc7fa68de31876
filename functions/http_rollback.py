"""Back to the previous champion."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_rollback")
@bp.route(route="pipelines/{name}/rollback", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_rollback(req: func.HttpRequest) -> func.HttpResponse:
    """Turn a rollout round, or move all traffic to the previous version or to ``version``."""
    from shared import http_api
    from shared.domain.signals import RollbackRequested

    return http_api.operator(
        req,
        lambda name, body, common: RollbackRequested(pipeline=name, version=http_api.text(body, "version"), **common),
        "version",
    )
