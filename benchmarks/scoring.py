"""Answers a second over HTTP: Landfall beside what a user would serve the same model with, each a whole process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import load
from benchmarks.environments import environment
from benchmarks.figures import Figure, compared
from shared.settings import ROOT, child_environment

SCRIPTS = ROOT / "benchmarks" / "peers"
COLUMNS = [f"feature{i}" for i in range(20)]
START_SECONDS = 120
PACED = 400
"""One-row requests a second at which latencies are compared: half of what the slowest compiled contender answers."""


@dataclass(frozen=True)
class Contender:
    """A server: how it is started, asked, and its answer read as the predicted classes."""

    name: str
    command: list[str]
    path: str
    body: Callable[[list[list[float]]], dict[str, Any]]
    read: Callable[[dict[str, Any]], list[int]]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    key: Callable[[], dict[str, str]] = dict


def run(quick: bool) -> list[Figure]:
    """Requests of one row and of 1,000 rows, rounds in turn; all servers are up, one is asked at a time."""
    seconds, rounds = (2.0, 2) if quick else (6.0, 5)
    with tempfile.TemporaryDirectory(prefix="landfall-scoring-") as name, ExitStack() as servers:
        work = Path(name)
        rows = prepare(work)
        ports = {}
        for contender, port in _contenders(work):
            servers.enter_context(_served(contender, port))
            _proven(contender, port, rows, work)
            ports[contender.name] = (contender, port)
        figures = []
        for what, size, connections in (("one row", 1, 16), ("1,000 rows", 1000, 4)):
            taken: dict[str, list[load.Load]] = {name: [] for name in ports}
            for _ in range(rounds + 1):
                for name, (contender, port) in ports.items():
                    taken[name].append(_asked(contender, port, rows, size, connections, seconds))
            # The first round warms up.
            for figure, unit in (("rate", "/s"), ("p50", "ms"), ("p99", "ms")):
                values = {name: [getattr(one, figure) for one in loads[1:]] for name, loads in taken.items()}
                title = f"scoring {what}, {connections} connections, {figure}"
                figures += compared(title, unit, values, more_is_better=figure == "rate")
        # All that can keep up: the others would only tell how long the queue before them has become.
        keep_up = {name: found for name, found in ports.items() if _keeps_up(found, rows)}
        paced: dict[str, list[load.Load]] = {name: [] for name in keep_up}
        for _ in range(rounds + 1):
            for name, (contender, port) in keep_up.items():
                paced[name].append(load.paced(port, _requests(contender, rows, 1), 16, seconds, PACED))
        for figure in ("p50", "p99"):
            values = {name: [getattr(one, figure) for one in loads[1:]] for name, loads in paced.items()}
            figures += compared(f"scoring one row, {PACED} a second, {figure}", "ms", values)
        memory = {name: [_peak_megabytes(port)] for name, (_, port) in ports.items()}
        return [*figures, *compared("scoring, memory", "MB", memory)]


def prepare(work: Path) -> list[list[float]]:
    """A forest as the guide trains it, as a registered, compiled and deployed version; and rows it has not seen."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    from shared.adapters.local.endpoint_service import LocalEndpoints
    from shared.adapters.local.lake import FolderLake
    from shared.adapters.local.model_registry import MlflowRegistry
    from shared.adapters.local.run_ledger import SqliteLedger
    from shared.adapters.system_clock import SystemClock
    from shared.domain.compiled import GRAPH, place
    from shared.domain.ledger import Version
    from shared.domain.pipelines import Rollout
    from shared.models.compile_model import compile_model

    x, y = make_classification(12_000, len(COLUMNS), n_informative=10, random_state=0)
    frame = pd.DataFrame(x.round(4), columns=COLUMNS)
    model = RandomForestClassifier(n_estimators=100, max_depth=10, random_state=42).fit(frame[:10_000], y[:10_000])
    home, folder = work / "home", work / "home" / "jobs" / "train" / "outputs" / "model"
    mlflow.sklearn.save_model(
        model, folder, signature=infer_signature(frame), pip_requirements=[], serialization_format="cloudpickle"
    )
    shutil.copytree(folder, work / "model")
    registry, lake = MlflowRegistry(home), FolderLake(home / "lake", "landfall", "lake")
    registered = registry.register("numbers", job="train", output="model", tags={})
    SqliteLedger(home / "ledger.db").insert(
        Version(
            pipeline="numbers",
            version="1",
            status="champion",
            registered_at=registered.created_at,
            signature=registered.signature,
        )
    )
    proof, graph = compile_model(folder, frame[10_000:])
    assert graph, proof.reason
    lake.write(place("numbers", "1", GRAPH), graph)
    pipeline = work / "pipelines" / "numbers"
    pipeline.mkdir(parents=True)
    pipeline.joinpath("pipeline.yaml").write_text(
        "name: numbers\nlanding: {path: landing/numbers}\nfeatures: {key: id, label: target}\n"
    )
    pipeline.joinpath("features.sql").write_text(f"SELECT id, {', '.join(COLUMNS)}, target FROM landed\n")
    pipeline.joinpath("train.py").touch()
    pipeline.joinpath("environment.yml").write_text("dependencies: [python=3.11]\n")
    endpoints = LocalEndpoints(home, registry, SystemClock(), lake)
    endpoints.ensure("numbers")
    endpoints.deploy("numbers", "v1", model="numbers", version="1", sizing=Rollout())
    while endpoints.deployments("numbers")["v1"].state != "ready":
        time.sleep(0.1)
    endpoints.set_traffic("numbers", {"v1": 100})
    # Our own deployment: the code, the graph beside it, and the model.
    shutil.copytree(ROOT / "shared", work / "code" / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "shared" / "jobs" / "score.py", work / "code")
    (work / "code" / GRAPH).write_bytes(graph)
    runtime = work / "mlserver"
    runtime.mkdir()
    shutil.copy(SCRIPTS / "onnx_runtime.py", runtime)
    (runtime / "model-settings.json").write_text(
        json.dumps({"name": "numbers", "implementation": "onnx_runtime.Onnx", "parameters": {"uri": "."}})
    )
    (work / "expected.json").write_text(json.dumps(model.predict(frame[10_000:]).tolist()))
    rows: list[list[float]] = frame[10_000:].to_numpy().tolist()
    return rows


def _contenders(work: Path) -> Iterator[tuple[Contender, int]]:
    """The servers and their ports; the first is the baseline."""
    azureml, mlflow, mlserver = (environment(name) for name in ("azureml", "mlflow", "mlserver"))
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "GRAPH": str(work / "code" / "compiled.onnx")}

    def on_azureml(name: str, script: Path, port: int, body: str, **more: Any) -> Contender:
        return Contender(
            name,
            [str(azureml / "azmlinfsrv"), "--entry_script", str(script), "--port", str(port), "--worker_count", "1"],
            "/score",
            (lambda rows: {"data": rows})
            if body == "data"
            else lambda rows: {"input_data": {"columns": COLUMNS, "data": rows}},
            lambda answer: answer["predictions"],
            {**quiet, "AZUREML_MODEL_DIR": str(work / "model")},
            **more,
        )

    port = _free_port()
    yield (
        on_azureml("the guide's score.py on azureml-inference-server-http", SCRIPTS / "guide_score.py", port, "data"),
        port,
    )
    port = _free_port()
    command = [str(mlflow / "mlflow"), "models", "serve", "-m", str(work / "model"), "-p", str(port)]
    yield (
        Contender(
            "mlflow models serve",
            [*command, "--env-manager", "local"],
            "/invocations",
            lambda rows: {"dataframe_split": {"columns": COLUMNS, "data": rows}},
            lambda answer: answer["predictions"],
            {"PATH": f"{mlflow}:{os.environ['PATH']}"},
        ),
        port,
    )
    port = _free_port()
    yield on_azureml("ONNX on azureml-inference-server-http", SCRIPTS / "onnx_score.py", port, "data"), port
    port = _free_port()
    yield (
        Contender(
            "ONNX on MLServer",
            [str(mlserver / "mlserver"), "start", str(work / "mlserver")],
            "/v2/models/numbers/infer",
            lambda rows: {
                "inputs": [{"name": "rows", "shape": [len(rows), len(COLUMNS)], "datatype": "FP64", "data": rows}]
            },
            lambda answer: answer["outputs"][0]["data"],
            {**quiet, **_mlserver_ports(port), "PYTHONPATH": str(work / "mlserver")},
            work / "mlserver",
        ),
        port,
    )
    port = _free_port()
    script = work / "code" / "score.py"
    deployed = on_azureml("Landfall's deployment on azureml-inference-server-http", script, port, "input_data")
    yield deployed, port
    port = _free_port()
    yield (
        Contender(
            "Landfall's endpoint (landfall up)",
            [str(Path(sys.executable).with_name("landfall")), "up"],
            "/api/pipelines/numbers/score",
            lambda rows: {"data": rows},
            lambda answer: answer["predictions"],
            {
                "LANDFALL_HOME": str(work / "home"),
                "LANDFALL_PIPELINES": str(work / "pipelines"),
                "LANDFALL_PORT": str(port),
            },
            key=lambda: {"x-functions-key": json.loads((work / "home" / "keys.json").read_text())["function"]},
        ),
        port,
    )


def _mlserver_ports(port: int) -> dict[str, str]:
    return {
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(_free_port()),
        "MLSERVER_METRICS_PORT": str(_free_port()),
        "MLSERVER_PARALLEL_WORKERS": "0",
    }


@contextmanager
def _served(contender: Contender, port: int) -> Iterator[None]:
    """The server, up and answering until the end of the block, with all the processes that it starts."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            contender.command,
            cwd=contender.folder,
            env=child_environment(contender.environment),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=1):
                        break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        said = log.read().decode(errors="replace")[-2000:]
                        raise RuntimeError(f"{contender.name} does not answer at port {port}: {said}") from error
                    time.sleep(0.2)
            yield
        finally:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for member in family:
                member.kill()
            process.wait()


def _proven(contender: Contender, port: int, rows: list[list[float]], work: Path) -> None:
    """Raise RuntimeError unless the contender predicts what the model does."""
    expected = json.loads((work / "expected.json").read_text())
    for some in (slice(0, 1), slice(0, 1000)):
        body = json.dumps(contender.body(rows[some])).encode()
        headers = {"Content-Type": "application/json", **contender.key()}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{contender.path}", body, headers)
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    got = contender.read(json.loads(answer.read()))
                break
            except urllib.error.URLError as error:
                # A server that listens may still load its model.
                if time.monotonic() > end:
                    raise RuntimeError(f"{contender.name}: {error}") from error
                time.sleep(0.5)
        if got != expected[some]:
            raise RuntimeError(f"{contender.name} does not predict what the model predicts")


def _asked(
    contender: Contender, port: int, rows: list[list[float]], size: int, connections: int, seconds: float
) -> load.Load:
    return load.run(port, _requests(contender, rows, size), connections, seconds)


def _keeps_up(found: tuple[Contender, int], rows: list[list[float]]) -> bool:
    contender, port = found
    return load.run(port, _requests(contender, rows, 1), 16, 1.0).rate > 1.3 * PACED


def _requests(contender: Contender, rows: list[list[float]], size: int) -> list[bytes]:
    groups = [rows[begin : begin + size] for begin in range(0, min(len(rows), 200 * size), size)]
    headers = contender.key()
    return [load.request(contender.path, json.dumps(contender.body(group)).encode(), headers) for group in groups]


def _peak_megabytes(port: int) -> float:
    """The most memory that the processes behind a port ever had."""
    owner = next(
        c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid
    )
    process = psutil.Process(owner)
    family = [process, *process.children(recursive=True)]
    peaks = [Path(f"/proc/{member.pid}/status").read_text() for member in family]
    return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in peaks) / 1024


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
