"""A laptop's Event Grid delivers what waits in the spool folder until it is taken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from landfall.host import LaptopHost, event_grid
from shared.adapters.local import spool
from tests.functions.tiny_app import Seen, until

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def raise_event(
    home: Path, id: str, subject: str = "models/m:1", at: datetime = NOON, kind: str = "ModelRegistered"
) -> Path:
    return spool.raise_event(
        home,
        subject=subject,
        event_type="Microsoft.MachineLearningServices.ModelRegistered",
        data={"ModelName": "m"},
        id=id,
        event_time=at,
        topic="workspace",
    )


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_grid, "retry_delay", lambda attempt: 0.05)


def test_events_that_waited_are_delivered_the_oldest_first_and_removed(
    tmp_path: Path, run_host: Callable[..., LaptopHost], seen: Seen
) -> None:
    for minutes in (3, 1, 2):
        raise_event(tmp_path, f"e{minutes}", at=NOON + timedelta(minutes=minutes))
    run_host()
    assert [event.id for event in seen.wait("event_azureml", 3)] == ["e1", "e2", "e3"]
    until(lambda: not spool.waiting(tmp_path))


def test_an_event_that_is_not_taken_is_sent_again_and_holds_up_no_other(
    tmp_path: Path, host: LaptopHost, seen: Seen
) -> None:
    raise_event(tmp_path, "shaky", subject="flaky")
    raise_event(tmp_path, "fine", at=NOON + timedelta(minutes=1))
    until(lambda: not spool.waiting(tmp_path))
    ids = [event.id for event in seen.of("event_azureml")]
    assert (ids.count("shaky"), ids.count("fine")) == (3, 1)
    assert ids.index("fine") < len(ids) - 1


def test_an_event_that_nobody_takes_stays(tmp_path: Path, host: LaptopHost, seen: Seen) -> None:
    foreign = tmp_path / "eventgrid" / "0-foreign.json"
    raise_event(tmp_path, "first")
    seen.wait("event_azureml")
    foreign.write_text('{"eventType": "Contoso.Happened"}')
    (tmp_path / "eventgrid" / "1-half.json").write_text('{"eventTy')
    raise_event(tmp_path, "second", at=NOON + timedelta(minutes=1))
    until(lambda: [event.id for event in seen.of("event_azureml")] == ["first", "second"])
    until(lambda: [path.name for path in spool.waiting(tmp_path)] == ["0-foreign.json", "1-half.json"])


def test_waits_between_attempts_grow_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    delays = [event_grid.retry_delay(attempt) for attempt in range(1, 31)]
    assert delays[:4] == [0.5, 1, 2, 4]
    assert delays == sorted(delays)
    assert delays[-1] == 30
