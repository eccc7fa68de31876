"""Real deployments: a child process that runs the scoring code that was uploaded on the model that was registered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from shared.settings import ROOT, child_environment
from tests.standin.online_endpoints import Deployment, Endpoint
from tests.standin.work import Worker

SERVER = """
import importlib.util, json, os, sys, traceback
out, sys.stdout = sys.stdout, sys.stderr
loaded, path = {}, list(sys.path)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked["do"] == "load":
            os.environ["AZUREML_MODEL_DIR"] = asked["model"]
            sys.path[:] = path
            for name in [name for name in sys.modules if name.partition(".")[0] == "shared"]:
                del sys.modules[name]
            spec = importlib.util.spec_from_file_location("entry_" + str(len(loaded)), asked["script"])
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.init()
            loaded[asked["key"]] = module
            answer = {"status": 200}
        elif asked["do"] == "forget":
            loaded.pop(asked["key"], None)
            answer = {"status": 200}
        else:
            answer = {"status": 200, "body": loaded[asked["key"]].run(asked["body"])}
    except BaseException as error:
        answer = {"status": 500, "body": "".join(traceback.format_exception(error))}
    print(json.dumps(answer), file=out, flush=True)
"""


class Scoring:
    """One process for all deployments, started with the first: it loads each deployment's own script and model.

    The package ``shared`` is the one that a deployment brings along; of this repository the process has
    the rest, because the tests' models are pickled with functions of theirs.
    """

    def __init__(self, worker: Worker, folder: Path) -> None:
        self._worker, self._folder = worker, folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._numbers: dict[str, int] = {}

    def prepare(self, endpoint: Endpoint, deployment: Deployment) -> None:
        """Load a deployment. Raises RuntimeError with the traceback when its code or model does not."""
        key = f"{endpoint.name}/{deployment.name}"
        self._numbers[key] = self._numbers.get(key, 0) + 1
        folder = self._folder / key / str(self._numbers[key])
        code = deployment.properties["codeConfiguration"]
        try:
            self._worker.code(code["codeId"], folder / "code")
            self._worker.fetch(deployment.properties["model"], folder / "model" / "model_output")
        except RuntimeError as error:
            raise RuntimeError(f"the storage initializer failed: {error}") from error
        answer = self._ask(
            do="load",
            key=key,
            code=str(folder / "code"),
            script=str(folder / "code" / code["scoringScript"]),
            model=str(folder / "model"),
        )
        if answer["status"] != 200:
            raise RuntimeError(answer["body"])

    def forget(self, endpoint: Endpoint, deployment: Deployment) -> None:
        """Give the memory of a deployment back."""
        key = f"{endpoint.name}/{deployment.name}"
        self._ask(do="forget", key=key)
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def score(self, endpoint: Endpoint, deployment: Deployment, body: bytes) -> tuple[int, bytes]:
        """Let a deployment answer."""
        answer = self._ask(do="score", key=f"{endpoint.name}/{deployment.name}", body=body.decode())
        return answer["status"], json.dumps(answer["body"]).encode()

    def stop(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def _ask(self, **question: Any) -> dict[str, Any]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._process = subprocess.Popen(
                    [sys.executable, "-c", SERVER],
                    cwd=self._folder,
                    env=child_environment({"PYTHONPATH": str(ROOT)}),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            assert self._process.stdin and self._process.stdout
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        return json.loads(line) if line else {"status": 502, "body": "the deployment's process has ended"}
