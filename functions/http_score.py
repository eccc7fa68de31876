"""Score rows by hand."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_score")
@bp.route(route="pipelines/{name}/score", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_score(req: func.HttpRequest) -> func.HttpResponse:
    """Answer rows with the live model of a pipeline; see shared.scoring.answering.score for the forms of a request.

    The header azureml-model-deployment or x-landfall-deployment chooses a deployment whatever its
    traffic; x-request-id names the request in the answer and in the prediction log. The answer's
    headers x-landfall-model-version and x-landfall-deployment say who answered.
    """
    from shared import http_scoring

    return http_scoring.answer(req)
