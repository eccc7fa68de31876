"""Scoring by hand: a request's rows answered by the live model, and logged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from shared.definitions.catalog import PipelineFolder
from shared.domain.categories import positive_class
from shared.errors import Missing, Refused, Rejected, Transient
from shared.loop import Loop
from shared.ports.endpoint_service import Answer, Route
from shared.scoring.model_input import model_input, rows_of
from shared.scoring.number_array import NumberArray
from shared.scoring.request_forms import keys_of


def score(loop: Loop, name: str, payload: Any, *, deployment: str | None = None, request_id: str) -> dict[str, Any]:
    """Answer ``payload``, parsed JSON or a NumberRequest, with the model of pipeline ``name``, and log both.

    The rows are under one of the keys ``data`` (lists of values in the order of the signature),
    ``dataframe_records`` (objects), ``dataframe_split`` ({"columns": […], "data": [[…]]}) or
    ``inputs`` (objects, lists, or one object of columns). Named columns are the model's own in any
    order, or the landed ones, which then go through a row-wise features.sql; the key and the label
    may be among them and do not reach the model. ``deployment`` chooses one whatever its traffic.

    The log notes the key of each row, so that labels that land later tell how good its answer was: the
    column features.key among named columns, or for rows of any form a list ``keys`` beside them.

    The result has predictions (one per row), probabilities (a list per row in the order of classes;
    both None for regression), classes, model {name, version}, deployment and request_id.

    Raises InvalidRequest with up to 100 faults (row from 0, column, value, expected, problem),
    Missing for an unknown pipeline or deployment, Refused when nothing can serve yet, Transient when
    the deployment does not answer.
    """
    folder = loop.catalog.lately(name)
    route, mirror = _route(loop, folder, deployment)
    columns, rows = rows_of(loop, folder, model_input(loop, route), payload)
    keys = keys_of(payload, folder.pipeline.features.key, len(rows))
    answer = _ask(loop, folder, route, columns, rows, request_id, keys=keys)
    if mirror is not None and random.random() * 100 < mirror.mirror:
        loop.mirror.send(partial(_ask_again, loop, folder, mirror, payload, request_id), len(rows))
    return {
        "predictions": answer.predictions,
        "probabilities": answer.probabilities,
        "classes": answer.classes,
        "model": {"name": route.model, "version": route.version},
        "deployment": answer.deployment,
        "request_id": request_id,
    }


def _ask(
    loop: Loop,
    folder: PipelineFolder,
    route: Route,
    columns: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    request_id: str,
    *,
    keys: list[Any] | None = None,
    mirrored: bool = False,
) -> Answer:
    """The answer of a deployment; it is logged, also that there was none."""
    at = loop.ports.clock.now()

    def log(answer: Answer | None, error: str | None) -> None:
        loop.predictions.record(
            folder.pipeline.name,
            request_id=request_id,
            deployment=route.deployment,
            version=route.version,
            at=at,
            milliseconds=answer.milliseconds if answer else 0.0,
            columns=columns,
            rows=rows,
            predictions=answer.predictions if answer else (),
            probability=_positive(answer, folder.pipeline.gate.positive) if answer else None,
            error=error,
            mirrored=mirrored,
            keys=keys,
        )

    try:
        answer = loop.ports.endpoints.score(folder.pipeline.endpoint, columns, rows, deployment=route.deployment)
    except Missing as error:
        raise Transient(f"deployment {route.deployment} was removed a moment ago; ask again") from error
    except Exception as error:
        log(None, f"{type(error).__name__}: {error}")
        raise
    log(answer, None)
    return answer


def _ask_again(loop: Loop, folder: PipelineFolder, route: Route, payload: Any, request_id: str) -> None:
    """Ask the deployment that gets copies what another one has answered; the answer is only logged.

    Input that it would refuse counts as an error of its own: callers send what the other one takes.
    """
    try:
        columns, rows = rows_of(loop, folder, model_input(loop, route), payload)
    except Rejected as error:
        loop.predictions.record(
            folder.pipeline.name,
            request_id=request_id,
            deployment=route.deployment,
            version=route.version,
            at=loop.ports.clock.now(),
            milliseconds=0.0,
            columns=(),
            rows=(),
            predictions=(),
            probability=None,
            error=f"{type(error).__name__}: {error}",
            mirrored=True,
        )
        return
    _ask(loop, folder, route, columns, rows, request_id, mirrored=True)


def _positive(answer: Answer, positive: str | None) -> Sequence[float] | None:
    """One probability per row: of the positive class, of the likeliest where there is none; None for regression."""
    if answer.probabilities is None or answer.classes is None:
        return None
    index = positive_class(answer.classes, positive)
    if isinstance(answer.probabilities, NumberArray):
        return answer.probabilities.largest() if index is None else answer.probabilities.column(index)
    return [max(row) if index is None else row[index] for row in answer.probabilities]


def _route(loop: Loop, folder: PipelineFolder, deployment: str | None) -> tuple[Route, Route | None]:
    """The deployment that shall answer, and one that gets copies, unless a deployment was asked for by its name.

    It is chosen here so that the input is checked against its own signature.
    """
    name, endpoint = folder.pipeline.name, folder.pipeline.endpoint
    routes = loop.ports.endpoints.routes(endpoint)
    if deployment is None:
        live = [route for route in routes if route.share]
        if not live:
            raise Refused(f"pipeline {name} has no live model yet: the first version that passes the gate will answer")
        chosen = live[0] if len(live) == 1 else random.choices(live, weights=[route.share for route in live])[0]
        return chosen, None if len(routes) == 1 else next((route for route in routes if route.mirror), None)
    for route in routes:
        if route.deployment == deployment:
            return route, None
    present = loop.ports.endpoints.deployments(endpoint)
    if deployment not in present:
        there = f"it has {', '.join(sorted(present))}" if present else "it has none"
        raise Missing(f"endpoint {endpoint} has no deployment {deployment}: {there}")
    found = present[deployment]
    if found.state == "failed":
        raise Refused(f"deployment {deployment} of endpoint {endpoint} failed: {found.reason}")
    raise Transient(f"deployment {deployment} of endpoint {endpoint} is {found.state}; ask again later")
