"""Deployments under Microsoft's own inference server (azureml-inference-server-http), one process each."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import httpx

from shared.settings import child_environment
from tests.standin.online_endpoints import Deployment, Endpoint
from tests.standin.work import Worker

SERVER = "azureml-inference-server-http==1.5.1"
MODELS = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "skops")
"""It needs an older opentelemetry-sdk than the app, so it cannot be in the environment of the tests."""
START_SECONDS = 60


def installed() -> Path:
    """The server's command, in an environment of its own beside what a scikit-learn model needs to be loaded."""
    wanted = [SERVER, *(f"{name}=={version(name)}" for name in MODELS)]
    home = Path(sys.prefix) / "inference-server" / hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    home.parent.mkdir(exist_ok=True)
    with (home.parent / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
            pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"pip cannot install the inference server: {done.stderr[-2000:]}")
            (home / "done").touch()
    return home / "bin" / "azmlinfsrv"


class InferenceServer:
    """Serves each deployment with the code that was uploaded, one folder below the app root as in Azure ML."""

    def __init__(self, command: Path, worker: Worker, folder: Path) -> None:
        self._command, self._worker, self._folder = command, worker, folder
        self._processes: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def prepare(self, endpoint: Endpoint, deployment: Deployment) -> None:
        """Start a deployment's server and wait until it is healthy. Raises RuntimeError with its log when it is not."""
        key = f"{endpoint.name}/{deployment.name}"
        root = self._folder / key
        code = deployment.properties["codeConfiguration"]
        self._worker.code(code["codeId"], root / "app" / "code")
        self._worker.fetch(deployment.properties["model"], root / "model" / "model_output")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = Path("code") / code["scoringScript"]
        command = [self._command, "--entry_script", str(script), "--port", str(port), "--worker_count", "1"]
        environment = child_environment(
            {"AML_APP_ROOT": str(root / "app"), "AZUREML_MODEL_DIR": str(root / "model"), "PYTHONPATH": ""}
        )
        log = root / "server.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=root / "app", env=environment, stdout=out, stderr=out)
        self._processes[key] = process, port
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise RuntimeError(log.read_text()[-4000:])

    def score(self, endpoint: Endpoint, deployment: Deployment, body: bytes) -> tuple[int, bytes]:
        """Let a deployment answer."""
        _, port = self._processes[f"{endpoint.name}/{deployment.name}"]
        headers = {"content-type": "application/json"}
        answer = httpx.post(
            f"http://127.0.0.1:{port}/score", content=body, headers=headers, timeout=60, trust_env=False
        )
        return answer.status_code, answer.content

    def stop(self) -> None:
        """End all servers."""
        for process, _ in self._processes.values():
            process.terminate()
            process.wait(10)
