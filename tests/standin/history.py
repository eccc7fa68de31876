"""Discovery and run history: why a job failed, and where its log is."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.standin import identity
from tests.standin.azureml import REGION, WORKSPACE, AzureML
from tests.standin.http import Problem, Request, Response

LOG = "user_logs/std_log.txt"


class History:
    """``publish`` puts the log of a job where clients can fetch it and returns the address."""

    def __init__(self, ml: AzureML, publish: Callable[[str, str], str]) -> None:
        self._ml = ml
        self._publish = publish

    def __call__(self, request: Request) -> Response:
        """Any call to the workspace's api.azureml.ms host."""
        if request.path == "/discovery":
            api = f"https://{REGION}.api.azureml.ms"
            return Response(body={"api": api, "history": api, "experimentation": api})
        identity.check(request, identity.ARM, identity.ARM + "/", identity.ML)
        match = re.fullmatch(rf"/history/v1\.0{re.escape(WORKSPACE)}/runs/([^/]+)/details", request.path)
        if not match:
            raise Problem(404, "NotFound", f"run history has no {request.path}")
        with self._ml.lock:
            job = self._ml.jobs.get(match[1])
            if job is None:
                raise Problem(404, "UserError", f"run history has no run {match[1]}")
            name, status, error, log = job.name, job.status, job.error, job.log
        body: dict[str, object] = {"runId": name, "status": status, "logFiles": {}}
        if log:
            body["logFiles"] = {LOG: self._publish(name, log)}
        if error:
            body["error"] = {"error": {"code": "UserError", "message": error}}
        return Response(body=body)
