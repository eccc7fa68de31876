"""One run, whole."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_run")
@bp.route(route="pipelines/{name}/runs/{run}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def http_run(req: func.HttpRequest) -> func.HttpResponse:
    """The run with its story and every decision about it."""
    from shared import history, http_api

    name, run = req.route_params["name"], req.route_params["run"]
    return http_api.answering(lambda loop: http_api.answer(history.run(loop, name, run)))
