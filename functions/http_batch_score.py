"""Score a file of the lake."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_batch_score")
@bp.route(route="pipelines/{name}/batch-scores", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_batch_score(req: func.HttpRequest) -> func.HttpResponse:
    """Score the lake file ``input`` into ``output`` with the champion, once for each ``partition``.

    On Azure ``query`` reads the input from the SQL pool, and ``table`` loads the output into it.
    """
    from shared import http_api
    from shared.domain.signals import BatchScoringRequested

    return http_api.operator(
        req,
        lambda name, body, common: BatchScoringRequested(
            pipeline=name,
            input=http_api.text(body, "input"),
            output=http_api.text(body, "output"),
            partition=http_api.text(body, "partition"),
            query=http_api.text(body, "query"),
            table=http_api.text(body, "table"),
            **common,
        ),
        "input",
        "output",
        "partition",
        "query",
        "table",
    )
