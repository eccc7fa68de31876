"""What the loop shows: spans and log lines that carry the same ids, and nothing secret."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared import reactions, telemetry
from shared.errors import Transient
from tests.reactions.world import World

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    world.loop = replace(world.loop, ports=telemetry.traced(world.loop.ports))
    yield world
    world.close()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.start(provider)
    yield exporter
    telemetry.start(None)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "landfall.signals"]


def test_a_signal_is_a_span_and_the_calls_it_leads_to_are_its_children(world: World, spans: Any) -> None:
    world.to_champion()
    moves = named(spans, "EndpointService.set_traffic")
    assert moves
    by_id = {span.context.span_id: span for span in spans.get_finished_spans()}
    for move in moves:
        signal = by_id[move.parent.span_id]
        assert signal.name == "signal RolloutDue"
        assert move.attributes["landfall.signal"] == signal.attributes["landfall.signal"]
        assert move.attributes["landfall.endpoint"] == "churn"


def test_spans_from_the_batch_to_the_endpoint_carry_the_run(world: World, spans: Any) -> None:
    world.to_champion()
    run = world.runs[0].id
    for name in ("FeatureEngine.submit", "TrainingService.submit", "ModelRegistry.register", "EndpointService.deploy"):
        assert {span.attributes.get("landfall.run") for span in named(spans, name)} == {run}, name
        assert {span.attributes.get("landfall.pipeline") for span in named(spans, name)} <= {"churn", None}
    for kind in ("BatchDue", "FeaturesReady", "TrainingFinished", "EvaluationFinished", "RolloutDue"):
        ended = named(spans, f"signal {kind}")
        assert ended and {span.attributes["landfall.run"] for span in ended} == {run}, kind
        assert {span.attributes["landfall.pipeline"] for span in ended} == {"churn"}


def test_each_signal_leaves_one_line_with_the_same_ids(
    world: World, spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "landfall.signals"):
        world.to_champion()
    told = {(line["signal"], line["run"], line["outcome"]) for line in lines(caplog)}
    shown = {
        (
            span.attributes["landfall.signal"],
            span.attributes.get("landfall.run", ""),
            span.attributes["landfall.outcome"],
        )
        for span in spans.get_finished_spans()
        if span.name.startswith("signal ")
    }
    assert told == shown
    assert all(line["pipeline"] == "churn" and int(line["ms"]) >= 0 for line in lines(caplog))


def test_an_error_marks_the_call_and_the_signal_and_passes_on(
    world: World, spans: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise Transient("the lake at https://x/y?sv=1&sig=abc%2F123&se=2 does not answer, Bearer eyJ0.e30.x was sent")

    event = world.event("landing/churn/a.csv").to_message()
    monkeypatch.setattr(world.loop.ports.ledger._adapter, "insert", broken)
    with caplog.at_level(logging.INFO, "landfall.signals"), pytest.raises(Transient):
        reactions.handle(event, world.loop)
    (call,), (signal,) = named(spans, "RunLedger.insert"), named(spans, "signal DataLanded")
    (line,) = lines(caplog)
    assert line["outcome"] == "raised"
    for text in (call.status.description, signal.status.description, line["reason"]):
        assert text.startswith("Transient: the lake")
        assert "abc" not in text and "eyJ0" not in text and "sig=…" in text
    assert call.status.status_code == signal.status.status_code == StatusCode.ERROR
    assert not call.events, "a recorded exception would carry its whole text"


def test_what_a_generator_gives_is_within_its_span(world: World, spans: Any) -> None:
    world.land("landing/churn/a.csv", b"12345")
    listing = world.loop.ports.lake.list("landing/")
    assert named(spans, "Lake.list") == []
    assert [info.path for info in listing] == ["landing/churn/a.csv"]
    assert len(named(spans, "Lake.list")) == 1


def test_values_and_contents_are_never_recorded(world: World, spans: Any) -> None:
    world.to_champion(content=b"customer_id,tenure\n4711-SECRET,3\n")
    world.loop.ports.endpoints.score("churn", ["customer_id"], [["4711-SECRET"]], deployment="v1")
    assert named(spans, "EndpointService.score")
    assert "4711-SECRET" not in "".join(span.to_json() for span in spans.get_finished_spans())


def test_a_message_that_is_no_signal_is_told_too(world: World, spans: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "landfall.signals"):
        reactions.handle("no signal at all", world.loop)
    (line,) = lines(caplog)
    assert (line["signal"], line["outcome"]) == ("unreadable", "rejected")
    assert len(named(spans, "signal unreadable")) == 1


def test_without_a_place_for_spans_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    look = (
        "import sys; from pathlib import Path; from shared import bootstrap, reactions, settings, telemetry\n"
        "loop = bootstrap.build(settings.load({'LANDFALL_HOME': sys.argv[1]}))\n"
        "reactions.handle('no signal', loop)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'opentelemetry' or 'monitor' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
