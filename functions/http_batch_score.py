"""Score a file of the lake."""

from __future__ import annotations

import azure.functions as func

bp = func.Blueprint()
FIELDS = ("input", "output", "partition", "query", "table")


@bp.function_name("http_batch_score")
@bp.route(route="pipelines/{name}/batch-scores", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def http_batch_score(req: func.HttpRequest) -> func.HttpResponse:
    """Score the lake file ``input`` into ``output`` with the champion, once for each ``partition``.

    On Azure ``query`` reads the input from the SQL pool, and ``table`` loads the output into it.
    """
    from typing import Any

    from shared import bootstrap, http_api
    from shared.domain.signals import BatchScoringRequested

    def make(name: str, body: dict[str, Any], common: dict[str, Any]) -> BatchScoringRequested:
        from shared.reactions.batch_scoring_requested import refuse_what_cannot_be

        asked: dict[str, Any] = {field: http_api.text(body, field) for field in FIELDS}
        signal = BatchScoringRequested(pipeline=name, **asked, **common)
        refuse_what_cannot_be(signal, bootstrap.loop().settings.backend)
        return signal

    return http_api.operator(req, make, *FIELDS)
