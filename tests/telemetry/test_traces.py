"""Spans reach Application Insights over HTTPS, with the exporter as it is, signed with the app's identity."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from shared import bootstrap, telemetry
from shared.adapters.azure import traces
from shared.domain.ledger import Run
from shared.settings import load
from tests.standin import identity
from tests.standin.certificates import Certificates
from tests.standin.http import Request

KEY = "00000000-0000-0000-0000-00000000000c"


class Insights:
    """The ingestion address and the identity endpoint of an app, on one HTTPS port. ``items`` are what came."""

    def __init__(self, folder: Path) -> None:
        self.items: list[dict[str, Any]] = []
        self.audiences: list[str] = []
        certificates = Certificates(folder)
        self.bundle = str(certificates.bundle)
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(url.query))
                self._answer(identity.Identity()(Request("GET", "127.0.0.1", url.path, query, headers, b"")).body)

            def do_POST(self) -> None:
                token = self.headers["Authorization"].removeprefix("Bearer ")
                here.audiences.append(jwt.decode(token, options={"verify_signature": False})["aud"])
                body = self.rfile.read(int(self.headers["Content-Length"]))
                text = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                received = json.loads(text)
                here.items += received
                self._answer({"itemsReceived": len(received), "itemsAccepted": len(received), "errors": []})

            def _answer(self, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context: ssl.SSLContext = certificates.server()
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def insights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Insights]:
    made = Insights(tmp_path / "certificates")
    environment = {
        "REQUESTS_CA_BUNDLE": made.bundle,
        "SSL_CERT_FILE": made.bundle,
        "IDENTITY_ENDPOINT": f"{made.address}/msi/token",
        "IDENTITY_HEADER": identity.HEADER,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.server.shutdown()
    telemetry.start(None)


def connection(insights: Insights) -> str:
    return f"InstrumentationKey={KEY};IngestionEndpoint={insights.address}/"


def test_a_span_arrives_with_its_ids(insights: Insights) -> None:
    provider = traces.provider(connection(insights))
    with provider.get_tracer("landfall").start_as_current_span("Lake.write", attributes={"landfall.run": "churn-b1"}):
        pass
    provider.shutdown()
    (item,) = (item for item in insights.items if item["data"]["baseType"] == "RemoteDependencyData")
    assert item["data"]["baseData"]["name"] == "Lake.write"
    assert item["data"]["baseData"]["properties"]["landfall.run"] == "churn-b1"
    assert item["tags"]["ai.cloud.role"] == "landfall"
    assert set(insights.audiences) == {"https://monitor.azure.com"}


def test_the_setting_alone_turns_spans_on(insights: Insights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], traces.provider
    monkeypatch.setattr(traces, "provider", lambda *given: made.append(real(*given)) or made[-1])
    settings = load({"LANDFALL_HOME": str(tmp_path), "APPLICATIONINSIGHTS_CONNECTION_STRING": connection(insights)})
    assert KEY not in repr(settings)
    ports = bootstrap.build(settings).ports
    assert ports.ledger.__class__.__name__ == "_Traced"
    ports.ledger.read(Run, "churn", "churn-b1")
    made[0].shutdown()
    assert "RunLedger.read" in [item["data"]["baseData"].get("name") for item in insights.items]
    assert bootstrap.build(load({"LANDFALL_HOME": str(tmp_path)})).ports.ledger.__class__.__name__ == "SqliteLedger"
