"""A process that is Microsoft's Python worker (azure_functions_runtime) around the app in the current folder.

It speaks JSON lines: what the host asks comes by standard input, what the worker answers goes to standard
output. The first line out tells the functions. Only the worker's own code handles a request; the messages of
the host's protocol are replaced by objects with the same fields.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path.cwd()))

import azure_functions_runtime as worker


class Message:
    """Any message of the protocol: the fields that it was made with, None for others."""

    def __init__(self, *_: Any, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> None:
        if not name[:1].islower():
            raise AttributeError(name)

    def WhichOneof(self, _: str) -> str | None:
        return next((name for name, value in self.__dict__.items() if value is not None and name != "name"), None)


class StatusResult(Message):
    Failure, Success = 0, 1


class BindingInfo(Message):
    undefined, out, inout = 2, 1, 2


class Protos:
    """The module of messages that the worker makes its answers of."""

    StatusResult, BindingInfo = StatusResult, BindingInfo

    def __getattr__(self, name: str) -> type[Message]:
        return Message


async def serve() -> None:
    """Index the app, say so, and handle what comes until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    protos = Protos()

    def ask(**fields: Any) -> Any:
        return SimpleNamespace(request=SimpleNamespace(**fields), properties={"host": "127.0.0.1", "protos": protos})

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    begin = SimpleNamespace(capabilities={}, function_app_directory=str(Path.cwd()))
    begun = await worker.worker_init_request(ask(worker_init_request=begin))
    if begun.result.status != StatusResult.Success:
        tell({"failure": _failure(begun.result)})
        return
    found = (await worker.functions_metadata_request(ask())).function_metadata_results
    worker.start_threadpool_executor()
    for function in found:
        await worker.function_load_request(ask(function_load_request=SimpleNamespace(function_id=function.function_id)))
    ids = {function.name: function.function_id for function in found}
    tell({"functions": {f.name: [json.loads(binding) for binding in f.raw_bindings] for f in found}})

    async def invoke(asked: dict[str, Any]) -> None:
        request = SimpleNamespace(
            invocation_id=str(uuid.uuid4()),
            function_id=ids[asked["function"]],
            input_data=[Message(name=asked["argument"], data=_data(asked["kind"], asked["data"]))],
            trigger_metadata={key: Message(string=value) for key, value in asked.get("metadata", {}).items()},
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
        answer = await worker.invocation_request(ask(invocation_request=request))
        failure = "" if answer.result.status == StatusResult.Success else _failure(answer.result)
        outputs = {out.name: _plain(out.data) for out in answer.output_data or ()}
        returned = _plain(answer.return_value) if answer.return_value else None
        tell({"id": asked["id"], "failure": failure, "outputs": outputs, "returned": returned})

    loop, tasks = asyncio.get_running_loop(), set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(invoke(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _data(kind: str, data: Any) -> Message:
    if kind != "http":
        return Message(**{"string" if kind == "queue" else "json": data})
    body = Message(bytes=base64.b64decode(data.pop("body")))
    return Message(http=Message(**data, body=body))


def _plain(data: Message) -> Any:
    kind = data.WhichOneof("data")
    if kind == "http":
        body = data.http.body
        content = getattr(body, body.WhichOneof("data") or "", None) or b""
        content = content.encode() if isinstance(content, str) else content
        headers = dict(data.http.headers)
        return {"status": data.http.status_code, "headers": headers, "body": base64.b64encode(content).decode()}
    return getattr(data, kind) if kind else None


def _failure(result: Any) -> str:
    error = result.exception
    return f"{error.type or ''} {error.message}\n{error.stack_trace or ''}"


if __name__ == "__main__":
    asyncio.run(serve())
