"""Train again by hand."""

from __future__ import annotations

from typing import Any

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_retrain")
@bp.route(route="pipelines/{name}/retrain", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_retrain(req: func.HttpRequest) -> func.HttpResponse:
    """Ask for a run on what has landed so far."""
    from shared import bootstrap, http_api
    from shared.domain.signals import RetrainingDue

    def make(name: str, body: dict[str, Any], common: dict[str, str]) -> RetrainingDue:
        bootstrap.loop().catalog.whole(name)
        reason = common["reason"] or "asked for by hand"
        return RetrainingDue(pipeline=name, cause="hand", slot=common["request"], reason=reason, by=common["by"])

    return http_api.operator(req, make)
