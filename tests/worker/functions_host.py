"""What the Functions host does around its Python worker: bindings, the queue with its poison queue, routes, timers."""

from __future__ import annotations

import base64
import fnmatch
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueClient, QueueMessage

from shared.settings import QUEUE, ROOT
from tests.standin import Storage

PROGRAM = Path(__file__).with_name("functions_worker.py")
START_SECONDS = 60
INVOKE_SECONDS = 600
THREADS = 4
POLL_SECONDS = 0.2


class Failed(Exception):
    """A function raised; the text is what the worker said of it."""


@dataclass(frozen=True)
class HttpAnswer:
    """What a caller of an HTTP function gets."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FunctionsHost:
    """Runs the app in folder ``app`` with the interpreter ``python``, in ``environment``; its storage is ``storage``.

    What the worker prints goes to worker.log in ``folder``. ``failures`` are what functions raised, each with the
    function's name in front.
    """

    app: Path
    python: Path
    environment: Mapping[str, str]
    storage: Storage
    folder: Path
    functions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Take away what another host's signals left in the queues of the storage account."""
        for name in (QUEUE, f"{QUEUE}-poison"):
            with suppress(ResourceNotFoundError):
                self._queue(name).clear_messages()

    @contextmanager
    def running(self) -> Iterator[FunctionsHost]:
        """The host at work, until the block ends; what is in hand then is finished."""
        settings = json.loads((self.app / "host.json").read_text())["extensions"]["queues"]
        self._attempts = int(settings["maxDequeueCount"])
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._signals, self._poison = self._queue(QUEUE), self._queue(f"{QUEUE}-poison")
        log = (self.folder / "worker.log").open("a")
        with subprocess.Popen(
            [self.python, PROGRAM],
            cwd=self.app,
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as self._process:
            slow = threading.Timer(START_SECONDS, self._process.kill)
            slow.start()
            assert self._process.stdout is not None and self._process.stdin is not None
            begun = json.loads(self._process.stdout.readline() or '{"failure": "the worker died, see worker.log"}')
            slow.cancel()
            if "failure" in begun:
                raise Failed(begun["failure"])
            self.functions = begun["functions"]
            threading.Thread(target=self._listen, daemon=True).start()
            pumps = [threading.Thread(target=self._pump, name=f"pump {n}") for n in range(THREADS)]
            for pump in pumps:
                pump.start()
            try:
                yield self
            finally:
                self._stopping.set()
                for pump in pumps:
                    pump.join()
                self._process.stdin.close()
        log.close()

    def deliver(self, event: Mapping[str, Any]) -> None:
        """An event of the Event Grid schema to the function that its subscription names."""
        name = "event_azureml" if ".MachineLearningServices." in event["eventType"] else "event_storage"
        self._invoke(name, "event", json.dumps(event))

    def send(self, message: str) -> None:
        """Put a message on the signal queue."""
        self._put(self._signals, message)

    def tick(self, name: str) -> None:
        """A timer's time has come."""
        self._invoke(name, "timer", json.dumps({"Schedule": {}, "ScheduleStatus": {}, "IsPastDue": False}))

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """An HTTP request to the app, below its route prefix. Raises LookupError when no function has the route."""
        for name, bindings in self.functions.items():
            trigger = _trigger(bindings)
            if trigger["type"] != "httpTrigger" or method not in trigger["methods"]:
                continue
            found = _match(trigger["route"], path)
            if found is not None:
                data = base64.b64encode(b"" if body is None else json.dumps(body).encode()).decode()
                request = {"method": method, "url": f"https://app.test/api/{path}", "query": {}, "params": found}
                given = {key.lower(): value for key, value in (headers or {}).items()}
                _, returned = self._invoke(name, "http", {**request, "headers": given, "body": data})
                return HttpAnswer(int(returned["status"]), returned["headers"], base64.b64decode(returned["body"]))
        raise LookupError(f"no function answers {method} /api/{path}")

    def poisoned(self) -> list[str]:
        """The messages that were given up and that no function took from the poison queue."""
        try:
            return [message.content for message in self._poison.peek_messages(32)]
        except ResourceNotFoundError:
            return []

    def _invoke(
        self, name: str, kind: str, data: Any, metadata: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], Any]:
        asked = {
            "function": name,
            "argument": _trigger(self.functions[name])["name"],
            "kind": kind,
            "data": data,
            "metadata": dict(metadata or {}),
        }
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            asked["id"] = len(self._answers)
            self._answers[asked["id"]] = future
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        answer = future.result(INVOKE_SECONDS)
        if answer["failure"]:
            said = f"{name}: {answer['failure']}"
            self.failures.append(said)
            raise Failed(said)
        for binding in self.functions[name]:
            value = answer["outputs"].get(binding["name"])
            if binding["type"] == "queue" and value is not None:
                for text in json.loads(value) if value.startswith("[") else [value]:
                    self._put(self._queue(binding["queueName"]), text)
        return answer["outputs"], answer["returned"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers[answer["id"]].set_result(answer)
        for future in self._answers.values():
            if not future.done():
                future.set_result({"failure": "the worker ended", "outputs": {}, "returned": None})

    def _pump(self) -> None:
        readers = [(self._signals, "queue_signals"), (self._poison, "queue_poison")]
        while not self._stopping.is_set():
            taken = False
            for queue, function in readers:
                try:
                    message = queue.receive_message(visibility_timeout=INVOKE_SECONDS)
                except ResourceNotFoundError:
                    continue
                if message is not None:
                    taken = True
                    self._handle(queue, function, message)
            if not taken:
                self._stopping.wait(POLL_SECONDS)

    def _handle(self, queue: QueueClient, function: str, message: QueueMessage) -> None:
        metadata = {
            "Id": message.id,
            "DequeueCount": str(message.dequeue_count),
            "PopReceipt": message.pop_receipt,
            "InsertionTime": message.inserted_on.isoformat(),
        }
        try:
            self._invoke(function, "queue", message.content, metadata)
        except Failed:
            if (message.dequeue_count or 1) < self._attempts:
                queue.update_message(message, visibility_timeout=1)
                return
            if queue is self._signals:
                self._put(self._poison, message.content)
        queue.delete_message(message)

    def _put(self, queue: QueueClient, text: str) -> None:
        try:
            queue.send_message(text)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                queue.create_queue()
            queue.send_message(text)

    def _queue(self, name: str) -> QueueClient:
        address = f"https://127.0.0.1:{self.storage.queue}/{self.storage.account}"
        authority = self.folder / "storage.pem"
        authority.write_bytes(self.storage.authority)
        return QueueClient(address, name, credential=self.storage.key, connection_verify=str(authority))


def deployed(target: Path) -> Path:
    """A copy of what a deployment contains: the project without what .funcignore names."""
    ignored = (ROOT / ".funcignore").read_text().split()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        parts = Path(name).parts
        ancestors = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if any(fnmatch.fnmatch(part, pattern) for pattern in ignored for part in (*parts, *ancestors)):
            continue
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def _trigger(bindings: list[dict[str, Any]]) -> dict[str, Any]:
    return next(binding for binding in bindings if binding["type"].endswith("Trigger"))


def _match(route: str, path: str) -> dict[str, str] | None:
    pattern = re.sub(r"\\\{(\\\*)?(\w+)\\\}", lambda m: f"(?P<{m[2]}>{'.+' if m[1] else '[^/]+'})", re.escape(route))
    found = re.fullmatch(pattern, path)
    return found.groupdict() if found else None
