"""The stand-in as a whole: start it, put its environment into the process, and use the real clients."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.standin import identity, proxy
from tests.standin.azureml import REGION, AzureML
from tests.standin.batch_endpoints import BatchEndpoints
from tests.standin.blobs import Blobs, Storage
from tests.standin.certificates import Certificates
from tests.standin.event_grid import EventGrid
from tests.standin.faults import Faults
from tests.standin.history import LOG, History
from tests.standin.http import Handler, Problem, Request, Response, serve
from tests.standin.identity import Identity
from tests.standin.inference import Inference
from tests.standin.memory_blobs import MemoryBlobs
from tests.standin.online_endpoints import OnlineEndpoints
from tests.standin.pipelines import Pipelines
from tests.standin.scoring import Scoring
from tests.standin.spark_pool import SparkPool
from tests.standin.synapse import Synapse
from tests.standin.work import Worker


@dataclass
class Call:
    """A call that came; ``status`` is 0 until it is answered, and stays 0 when the connection is cut."""

    method: str
    host: str
    path: str
    status: int = 0


class StandIn:
    """Azure on this machine. ``storage`` is the emulator that blob, queue and table hosts lead to; without
    one blobs are in memory, and there are no queues and tables. Jobs, Spark batches and deployments do real work;
    a test that tells their lives itself sets ``ml.worker`` to None, or ``synapse.started``,
    ``endpoints.prepare`` and ``inference.scorer`` to functions of its own.

    ``calls`` are all that came, ``refused`` the hosts that nobody may call, ``crashes``
    mistakes of the stand-in itself: at the end of a test the last two have to be empty.
    """

    def __init__(self, folder: Path, storage: Storage | None = None) -> None:
        self.folder = folder
        self.certificates = Certificates(folder)
        self.storage = storage
        self.identity = Identity()
        self.faults = Faults()
        self.ml = AzureML(storage.account if storage else "landfall")
        self.endpoints = OnlineEndpoints(self.ml)
        self.inference = Inference(self.endpoints)
        self.batch = BatchEndpoints(self.ml)
        self.events = EventGrid()
        self.synapse = Synapse()
        self.pipelines = Pipelines(self.synapse, self._answer, lambda: self.blobs)
        self.blobs: Blobs | MemoryBlobs = MemoryBlobs(self.ml.account)
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.crashes: list[str] = []
        self._services: list[tuple[re.Pattern[str], Handler]] = [
            (re.compile(r"127\.0\.0\.1"), self.identity),
            (re.compile(r"management\.azure\.com"), self.ml),
            (re.compile(rf"{REGION}\.api\.azureml\.ms"), History(self.ml, self._publish)),
            (re.compile(rf"[a-z0-9-]+\.{REGION}\.inference\.ml\.azure\.com"), self.batch.host(self.inference)),
            (re.compile(rf"[a-z0-9-]+\.{REGION}-1\.eventgrid\.azure\.net"), self.events),
            (re.compile(r"[a-z0-9-]+\.dev\.azuresynapse\.net"), self.pipelines),
        ]
        if not storage:
            self._services.append((re.compile(r"[a-z0-9]+\.blob\.core\.windows\.net"), self.blobs))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)
        self._port = self._proxy_port = 0
        self._ends: list[Callable[[], None]] = []

    def start(self) -> None:
        """Serve until :meth:`stop`."""
        self._thread.start()
        context = self.certificates.server()
        self._port = self._run(serve(self._answer, context, self.crashes))
        self._proxy_port = self._run(proxy.serve(self._port_of, self.refused))
        if self.storage:
            self.certificates.trust(self.storage.authority)
            self.blobs = Blobs(self.storage, self.proxy, self.certificates.bundle)
        self.blobs.ensure(self.ml.container)
        self.ml.sas, self.ml.ensure = self.blobs.sas, self.blobs.ensure
        worker = Worker(self.ml, self.blobs, self.folder / "work")
        scoring = Scoring(worker, self.folder / "serving")
        self.ml.worker = worker
        self.endpoints.prepare, self.endpoints.forget = scoring.prepare, scoring.forget
        self.inference.scorer = scoring.score
        self.spark = SparkPool(self.synapse, self.blobs, self.folder / "spark")
        self.synapse.started, self.synapse.killed = self.spark.start, self.spark.kill
        self._ends += [worker.stop, scoring.stop, self.spark.stop]

    def stop(self) -> None:
        """End the servers and what they run."""
        for end in self._ends:
            end()

        async def hang_up() -> None:
            open_ones = asyncio.all_tasks() - {asyncio.current_task()}
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(hang_up(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def proxy(self) -> str:
        """The address that HTTPS_PROXY has."""
        return f"http://127.0.0.1:{self._proxy_port}"

    def environment(self) -> dict[str, str]:
        """What an app needs in its environment so that its real clients come here."""
        bundle = str(self.certificates.bundle)
        return {
            "HTTPS_PROXY": self.proxy,
            "https_proxy": self.proxy,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "SSL_CERT_DIR": "",
            "IDENTITY_ENDPOINT": f"https://127.0.0.1:{self._port}/msi/token",
            "IDENTITY_HEADER": identity.HEADER,
        }

    def made(self, pattern: str) -> list[Call]:
        """The calls whose "METHOD host/path" matches."""
        return [call for call in self.calls if re.search(pattern, f"{call.method} {call.host}{call.path}")]

    def _run(self, server: object) -> int:
        started: asyncio.Server = asyncio.run_coroutine_threadsafe(server, self._loop).result(10)  # type: ignore[arg-type]
        return int(started.sockets[0].getsockname()[1])

    def _port_of(self, host: str) -> int | None:
        match = re.fullmatch(r"[a-z0-9]+\.(blob|queue|table)\.core\.windows\.net", host)
        if match and self.storage:
            return int(getattr(self.storage, match[1]))
        return self._port if any(pattern.fullmatch(host) for pattern, _ in self._services) else None

    def _answer(self, request: Request) -> Response:
        handler = next((h for pattern, h in self._services if pattern.fullmatch(request.host)), None)
        if handler is None:
            self.refused.append(request.host)
            raise Problem(403, "UnknownHost", f"the stand-in does not play {request.host}")
        call = Call(request.method, request.host, request.path)
        self.calls.append(call)
        try:
            response = self.faults.run(handler, request)
        except Problem as problem:
            call.status = problem.response.status
            raise
        call.status = response.status
        return response

    def _publish(self, job: str, log: str) -> str:
        path = f"ExperimentRun/dcid.{job}/{LOG}"
        self.blobs.write(self.ml.container, path, log.encode())
        address = f"https://{self.blobs.account}.blob.core.windows.net/{self.ml.container}/{path}"
        return f"{address}?{self.blobs.sas(self.ml.container)}"
