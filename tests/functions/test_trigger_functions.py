"""The event and timer functions of the app itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from functions.event_azureml import event_azureml
from functions.event_storage import event_storage
from functions.timer_drift import timer_drift
from functions.timer_reconcile import timer_reconcile
from functions.timer_retraining import timer_retraining
from landfall.host.functions import Output
from shared import bootstrap
from shared.adapters.local.run_ledger import SqliteLedger
from shared.adapters.local.signal_queue import SqliteQueue
from shared.definitions.catalog import Catalog
from shared.domain.ledger import Claim
from shared.domain.signals import DriftCheckDue, ModelRegistered, ReconcileDue, RetrainingDue, Signal, from_message
from shared.loop import Loop
from shared.ports import Ports
from tests.moving_clock import MovingClock

SUNDAY = datetime(2026, 1, 11, 1, 59, 30, tzinfo=UTC)

PIPELINE = """\
name: {name}
landing: {{path: landing/{name}}}
features: {{key: id, label: y}}
drift: {{every: 1h}}
retraining: {{schedule: {schedule}}}
"""


class World:
    """A queue, a ledger and pipelines, and a clock to move."""

    def __init__(self, home: Path) -> None:
        self.clock = MovingClock(SUNDAY)
        self.queue = SqliteQueue(home / "queue.db", self.clock)
        self.ledger = SqliteLedger(home / "ledger.db")
        self.pipelines = home / "pipelines"
        # Timers use no other port: a touch of one would fail.
        nothing = cast(Any, None)
        ports = Ports(
            lake=nothing, queue=self.queue, ledger=self.ledger, features=nothing, training=nothing, registry=nothing,
            endpoints=nothing, batch=nothing, events=nothing, clock=self.clock,
        )  # fmt: skip
        self.loop = Loop(settings=nothing, catalog=Catalog(self.pipelines), ports=ports, predictions=nothing)

    def pipeline(self, name: str, schedule: str = '"0 0 2 * * SUN"') -> None:
        folder = self.pipelines / name
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(PIPELINE.format(name=name, schedule=schedule))
        (folder / "features.sql").write_text("select * from landed")
        (folder / "train.py").write_text("")
        (folder / "environment.yml").write_text("name: x\n")

    def handled(self, signal: Signal) -> None:
        self.ledger.insert(
            Claim(
                signal=signal.claim_key,
                message=signal.to_message(),
                status="done",
                owner="",
                lease_until=self.clock.now(),
                first_seen=self.clock.now(),
            )
        )

    def sent(self) -> list[Signal]:
        """What was put on the queue since the last look; each is taken as handled."""
        messages = self.queue.receive(timedelta(minutes=1))
        for message in messages:
            self.queue.delete(message)
        signals = [from_message(message.text) for message in messages]
        for signal in signals:
            self.handled(signal)
        return signals


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    bootstrap.use(world.loop)
    yield world
    bootstrap.use(None)


def tick(last: datetime | None = None) -> TimerRequest:
    return TimerRequest(schedule_status={"Last": last.isoformat()} if last else {})


def event_object(**changes: Any) -> Any:
    fields = {"id": "1", "topic": "t", "subject": "s", "event_type": "X", "event_time": SUNDAY, "data": {}}
    return func.EventGridEvent(**{**fields, **changes}, data_version="1")


def test_an_event_function_puts_its_signal_into_the_output() -> None:
    out = Output()
    data = {"modelName": "churn", "modelVersion": 2}
    event_azureml(event_object(event_type="Microsoft.MachineLearningServices.ModelRegistered", data=data), out)
    assert [from_message(text) for text in out.messages()] == [ModelRegistered(model="churn", version="2")]


@pytest.mark.parametrize("function", [event_storage, event_azureml])
def test_an_event_that_cannot_be_read_is_a_signal_too(function: Any) -> None:
    out = Output()
    function(event_object(event_type=None), out)
    assert [type(from_message(text)).__name__ for text in out.messages()] == ["EventUnreadable"]


def test_an_event_that_wakes_nothing_leaves_the_output_empty() -> None:
    out = Output()
    event_storage(event_object(event_type="Microsoft.Storage.BlobDeleted"), out)
    assert out.messages() == []


def test_every_tick_asks_for_a_reconcile_of_its_own(world: World) -> None:
    keys = set()
    for seconds in (0, 20, 5):
        world.clock.advance(timedelta(seconds=seconds))
        out = Output()
        timer_reconcile(tick(), out)
        (signal,) = (from_message(text) for text in out.messages())
        assert isinstance(signal, ReconcileDue)
        keys.add(signal.key)
    assert len(keys) == 3


def test_each_drift_window_is_raised_once_for_each_pipeline(world: World) -> None:
    world.pipeline("churn")
    world.pipeline("other")
    hour = SUNDAY.replace(minute=0, second=0)
    timer_drift(tick())
    assert world.sent() == [DriftCheckDue(pipeline=name, slot=hour) for name in ("churn", "other")]
    timer_drift(tick())
    assert world.sent() == []
    world.clock.advance(timedelta(seconds=30))
    timer_drift(tick())
    assert world.sent() == [DriftCheckDue(pipeline=name, slot=hour + timedelta(hours=1)) for name in ("churn", "other")]


def test_a_scheduled_retraining_is_raised_once_when_its_time_has_come(world: World) -> None:
    world.pipeline("churn")
    world.pipeline("never", schedule="null")
    timer_retraining(tick())
    assert world.sent() == []
    raised = []
    for _ in range(3):
        world.clock.advance(timedelta(minutes=1))
        timer_retraining(tick(world.clock.now() - timedelta(minutes=1)))
        raised += world.sent()
    reason = "schedule 0 0 2 * * SUN at 2026-01-11 02:00 UTC"
    assert raised == [RetrainingDue(pipeline="churn", cause="schedule", slot="20260111t0200", reason=reason)]


@pytest.mark.parametrize(
    ("asleep", "last_known", "raised"),
    [
        (timedelta(hours=1), False, ["20260111t0200"]),
        (timedelta(days=5), True, ["20260111t0200"]),
        (timedelta(days=5), False, []),
        (timedelta(days=8), True, ["20260118t0200"]),
    ],
)
def test_a_retraining_that_was_slept_through_is_caught_up_with(
    world: World, asleep: timedelta, last_known: bool, raised: list[str]
) -> None:
    world.pipeline("churn")
    last = world.clock.now()
    world.clock.advance(asleep)
    timer_retraining(tick(last if last_known else None))
    assert [cast(RetrainingDue, signal).slot for signal in world.sent()] == raised


def test_a_broken_pipeline_does_not_stop_the_timers_of_the_others(world: World) -> None:
    world.pipeline("churn")
    world.pipeline("broken", schedule="tomorrow")
    timer_drift(tick())
    assert [cast(DriftCheckDue, signal).pipeline for signal in world.sent()] == ["churn"]
