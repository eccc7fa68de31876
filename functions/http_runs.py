"""The runs of a pipeline."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_runs")
@bp.route(route="pipelines/{name}/runs", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def http_runs(req: func.HttpRequest) -> func.HttpResponse:
    """The newest runs, ``?limit=`` of them (20)."""
    from shared import history, http_api

    name, limit = req.route_params["name"], req.params.get("limit", "20")
    return http_api.answering(lambda loop: http_api.answer(history.runs_of(loop, name, limit=http_api.whole(limit))))
