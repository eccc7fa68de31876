"""The prediction log: what is recorded is found again, whatever happens in between."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.adapters.local.lake import FolderLake
from shared.domain.drift import Profile, compare, profile_of, summarise
from shared.errors import Transient
from shared.ports.lake import FileInfo
from shared.predictions import prediction_log
from shared.predictions.prediction_log import LoggedRequest, PredictionLog
from shared.settings import ROOT
from tests.moving_clock import MovingClock

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class CountingLake(FolderLake):
    """A lake that counts what is read and can be out of reach."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "landfall", "lake")
        self.reads: list[str] = []
        self.down = False

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return super().read(path)

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> FileInfo:
        if self.down:
            raise Transient("the lake is out of reach")
        return super().write(path, data, overwrite=overwrite)


@pytest.fixture
def lake(tmp_path: Path) -> CountingLake:
    return CountingLake(tmp_path / "lake")


@pytest.fixture
def log(lake: CountingLake) -> Any:
    log = PredictionLog(lake, MovingClock())
    yield log
    lake.down = False
    log.close()


def record(log: PredictionLog, at: datetime = START, pipeline: str = "churn", **changes: Any) -> None:
    request: dict[str, Any] = {
        "request_id": "r", "deployment": "v1", "version": "1", "milliseconds": 2.0, "columns": ["tenure", "contract"],
        "rows": [[3, "month"]], "predictions": ["Yes"], "probability": [0.75], **changes,
    }  # fmt: skip
    log.record(pipeline, at=at, **request)


def window(
    log: PredictionLog, since: datetime = START, until: datetime = START + HOUR, **which: Any
) -> list[LoggedRequest]:
    return list(log.window("churn", since, until, **which))


def test_what_was_recorded_is_found_again(log: PredictionLog) -> None:
    record(log, rows=[[3, None], [4, "year"]], predictions=["Yes", "No"], probability=[0.75, 0.25])
    record(log, error="boom", predictions=[], probability=None)
    log.flush()
    good, bad = window(log)
    assert good == LoggedRequest(
        at=START, request_id="r", deployment="v1", version="1", milliseconds=2.0, columns=["tenure", "contract"],
        rows=[[3, None], [4, "year"]], predictions=["Yes", "No"], probability=[0.75, 0.25],
    )  # fmt: skip
    assert (bad.error, bad.predictions) == ("boom", [])


def test_what_waits_is_written_by_itself(log: PredictionLog) -> None:
    record(log)
    end = time.monotonic() + 10
    while not window(log) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(window(log)) == 1


def test_many_rows_are_written_at_once(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_log, "FLUSH_SECONDS", 60.0)
    record(log, rows=[[3, "month"]] * prediction_log.FLUSH_ROWS, predictions=["Yes"] * prediction_log.FLUSH_ROWS)
    end = time.monotonic() + 10
    while not window(log) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(window(log)) == 1


def test_closing_writes_what_waits_and_a_later_record_starts_again(log: PredictionLog) -> None:
    record(log)
    log.close()
    assert len(window(log)) == 1
    record(log)
    log.close()
    assert len(window(log)) == 2


def test_a_process_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from datetime import datetime, UTC\n"
        "from pathlib import Path\n"
        "from shared.adapters.system_clock import SystemClock\n"
        "from shared.adapters.local.lake import FolderLake\n"
        "from shared.predictions.prediction_log import PredictionLog\n"
        "log = PredictionLog(FolderLake(Path(sys.argv[1]), 'landfall', 'lake'), SystemClock())\n"
        "log.record('churn', request_id='last', deployment='v1', version='1', at=datetime(2026, 1, 5, 9, tzinfo=UTC),\n"
        "  milliseconds=1.0, columns=['a'], rows=[[1]], predictions=[1], probability=None)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lake")], cwd=ROOT, check=True, timeout=30)
    found = window(PredictionLog(FolderLake(tmp_path / "lake", "landfall", "lake"), MovingClock()))
    assert [request.request_id for request in found] == ["last"]


def test_a_window_begins_with_its_first_moment_and_ends_before_its_last(log: PredictionLog) -> None:
    tick = timedelta(microseconds=1)
    for at in (START - tick, START, START + HOUR - tick, START + HOUR):
        record(log, at, request_id=at.isoformat())
    log.flush()
    assert [r.at for r in window(log)] == [START, START + HOUR - tick]
    assert [r.at for r in window(log, START + HOUR - tick, START + HOUR + tick)] == [START + HOUR - tick, START + HOUR]
    assert window(log, START + HOUR + tick, START + 2 * HOUR) == []


def test_pieces_hold_one_pipeline_and_one_hour(log: PredictionLog, lake: CountingLake) -> None:
    for at in (START, START + HOUR, START + 20 * HOUR):
        record(log, at)
    record(log, pipeline="other")
    log.flush()
    assert [p.path.rsplit("/", 1)[0] for p in log.pieces("churn", START, START + 24 * HOUR)] == [
        "predictions/churn/2026-01-05/09", "predictions/churn/2026-01-05/10", "predictions/churn/2026-01-06/05",
    ]  # fmt: skip


def test_a_window_can_be_of_one_version(log: PredictionLog) -> None:
    record(log)
    record(log, version="2", deployment="v2")
    log.flush()
    assert [r.deployment for r in window(log, version="2")] == ["v2"]


def test_threads_lose_nothing_and_write_nothing_twice(log: PredictionLog) -> None:
    def work(thread: int) -> None:
        for i in range(200):
            record(log, START + timedelta(milliseconds=i), request_id=f"{thread}-{i}")
            if i % 50 == 0:
                log.flush()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    ids = [request.request_id for request in window(log)]
    assert sorted(ids) == sorted(f"{t}-{i}" for t in range(6) for i in range(200))


def test_what_the_lake_does_not_take_waits_and_is_written_later(log: PredictionLog, lake: CountingLake) -> None:
    lake.down = True
    record(log)
    with pytest.raises(Transient):
        log.flush()
    lake.down = False
    record(log)
    log.flush()
    assert len(window(log)) == 2


def test_a_full_queue_drops_the_newest_and_says_so(
    log: PredictionLog, lake: CountingLake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prediction_log, "MAX_ROWS", 10)
    lake.down = True
    for i in range(15):
        record(log, request_id=str(i))
    lake.down = False
    with caplog.at_level(logging.ERROR):
        log.flush()
    assert [r.request_id for r in window(log)] == [str(i) for i in range(10)]
    assert "5 requests were dropped" in caplog.text
    record(log, request_id="after")
    log.flush()
    assert len(window(log)) == 11


def test_requests_without_rows_count_where_memory_is_short(
    log: PredictionLog, lake: CountingLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "MAX_ROWS", 10)
    lake.down = True
    for i in range(15):
        record(log, request_id=str(i), rows=[], predictions=[], probability=None)
    lake.down = False
    log.flush()
    assert len(window(log)) == 10


def test_a_request_that_no_json_can_hold_leaves_a_line_in_the_log_and_its_answer_alone(
    log: PredictionLog, caplog: pytest.LogCaptureFixture
) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    record(log, request_id="deep", keys=[nested])
    record(log, request_id="flat")
    log.flush()
    assert [r.request_id for r in window(log)] == ["flat"]
    assert "request deep is nested too deeply" in caplog.text
    while nested:
        (nested,) = nested  # an innermost list that goes first takes no stack


@pytest.mark.parametrize("damage", [b'{"at": "2026-01-05T09:00', b"[1]\n", b"\xff\xfe\n", b'{"at": 3}\n', b"{}\n"])
def test_a_damaged_line_is_left_out_with_a_warning(
    log: PredictionLog, lake: CountingLake, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    record(log)
    log.flush()
    (piece,) = log.pieces("churn", START, START + HOUR)
    lake.write(piece.path, lake.read(piece.path) + damage)
    assert len(window(log)) == 1
    assert f"line 2 of {piece.path} is left out" in caplog.text


def test_other_files_in_the_folder_are_passed_over(log: PredictionLog, lake: CountingLake) -> None:
    record(log)
    log.flush()
    lake.write("predictions/churn/2026-01-05/09/notes.txt", b"mine")
    assert len(window(log)) == 1


def test_recording_costs_microseconds_and_never_waits(log: PredictionLog, lake: CountingLake) -> None:
    lake.down = True
    start = time.perf_counter()
    for _ in range(2_000):
        record(log)
    # Measured: 2 µs each; the bound leaves room for a busy machine.
    assert (time.perf_counter() - start) / 2_000 < 0.0005


# Summaries.


def reference() -> Profile:
    rng = np.random.default_rng(3)
    return profile_of(
        {
            "tenure": rng.integers(0, 72, 2_000),
            "contract": rng.choice(np.array(["month", "year"]), 2_000),
            "prediction": rng.choice(np.array(["Yes", "No"]), 2_000),
            "probability": rng.random(2_000),
        },
        {"tenure": "numeric", "contract": "categorical", "prediction": "categorical", "probability": "numeric"},
    )


def traffic(
    log: PredictionLog, start: datetime, requests: int, every: timedelta, seed: int = 1, **changes: Any
) -> None:
    rng = np.random.default_rng(seed)
    for i in range(requests):
        tenure, contract = int(rng.integers(0, 72)), str(rng.choice(["month", "year"]))
        answer = {"predictions": [str(rng.choice(["Yes", "No"]))], "probability": [float(rng.random())]}
        record(log, start + i * every, rows=[[tenure, contract]], **{**answer, **changes})
        if i % 17 == 0:
            log.flush()
    log.flush()


def by_hand(log: PredictionLog, profile: Profile, since: datetime, until: datetime, version: str | None = None) -> Any:
    found = [r for r in log.window("churn", since, until, version) if r.error is None]
    rows = [row for r in found for row in r.rows]
    columns = {
        "tenure": [row[0] for row in rows],
        "contract": [row[1] for row in rows],
        "prediction": [p for r in found for p in r.predictions],
        "probability": [p for r in found for p in r.probability or ()],
    }
    return summarise(profile, {name: np.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("since", "until"),
    [(0.0, 6.0), (0.37, 4.81), (1.0, 2.0), (2.5, 2.6), (0.0, 100.0)],
)
def test_a_summary_counts_exactly_the_window(log: PredictionLog, since: float, until: float) -> None:
    traffic(log, START, 300, timedelta(seconds=60))
    begin, end = START + since * HOUR, START + until * HOUR
    for _ in range(2):
        assert log.summary("churn", reference(), "k", begin, end) == by_hand(log, reference(), begin, end)


def test_a_summary_of_one_version_leaves_the_others_out(log: PredictionLog) -> None:
    traffic(log, START, 60, timedelta(seconds=60))
    traffic(log, START, 40, timedelta(seconds=60), version="2")
    counted = log.summary("churn", reference(), "k", START, START + HOUR, version="2")
    assert counted.rows == 40
    assert log.summary("churn", reference(), "k", START, START + HOUR).rows == 100


def test_errors_are_not_counted_as_answers(log: PredictionLog) -> None:
    traffic(log, START, 30, timedelta(seconds=60))
    record(log, START, error="boom", predictions=[], probability=None)
    log.flush()
    assert log.summary("churn", reference(), "k", START, START + HOUR).rows == 30


def test_versions_with_other_columns_are_counted_side_by_side(log: PredictionLog) -> None:
    record(log)
    record(log, columns=["tenure"], rows=[[9]], version="2")
    log.flush()
    counted = log.summary("churn", reference(), "k", START, START + HOUR)
    assert (counted.rows, counted.columns["tenure"].rows, counted.columns["contract"].rows) == (2, 2, 1)


def test_a_piece_is_read_for_a_summary_once_in_any_process(log: PredictionLog, lake: CountingLake) -> None:
    traffic(log, START, 120, timedelta(seconds=60))
    end = START + 3 * HOUR
    first = log.summary("churn", reference(), "k", START, end)
    other = PredictionLog(lake, MovingClock())
    lake.reads.clear()
    assert other.summary("churn", reference(), "k", START, end) == first
    assert {path.rsplit("/", 1)[1].partition("-")[0] for path in lake.reads} == {"summary"}
    lake.reads.clear()
    record(log, START + timedelta(minutes=30))
    log.flush()
    assert other.summary("churn", reference(), "k", START, end).rows == first.rows + 1
    assert len(lake.reads) == 1
    lake.reads.clear()
    assert other.summary("churn", reference(), "another profile", START, end).rows == first.rows + 1
    assert len(lake.reads) > 5


def test_a_look_reads_what_is_new_however_much_there_was_before(log: PredictionLog, lake: CountingLake) -> None:
    """In processes that remember nothing, hour after hour of the same traffic; windows begin in mid-hour."""
    pieces_read = []
    for hour in range(6):
        traffic(log, START + hour * HOUR, 60, timedelta(seconds=60))
        lake.reads.clear()
        end = START + (hour + 1) * HOUR
        PredictionLog(lake, MovingClock()).summary("churn", reference(), "k", START + HOUR / 24, end)
        pieces_read.append([path for path in lake.reads if path.endswith(".jsonl")])
    assert all(pieces_read)
    # The hour's own pieces, and the one that the window's beginning cuts.
    assert [len(read) for read in pieces_read[2:]] == [len(pieces_read[1])] * 4
    again = [path for n, read in enumerate(pieces_read) for path in read if path in pieces_read[n - 1]]
    assert len(set(again)) <= 1


def test_an_hour_that_windows_cut_ever_further_on_is_not_read_again(log: PredictionLog, lake: CountingLake) -> None:
    traffic(log, START, 240, timedelta(seconds=60))
    pieces = len(list(log.pieces("churn", START, START + 4 * HOUR)))
    PredictionLog(lake, MovingClock()).summary("churn", reference(), "k", START, START + 4 * HOUR)
    for minutes in range(3, 240, 10):
        lake.reads.clear()
        begin, end = START + timedelta(minutes=minutes), START + 4 * HOUR
        counted = PredictionLog(lake, MovingClock()).summary("churn", reference(), "k", begin, end)
        read = [path for path in lake.reads if path.endswith(".jsonl")]
        assert counted == by_hand(log, reference(), begin, end)
        assert len(read) <= 1 < pieces


def test_answers_are_found_beside_a_column_of_their_name(log: PredictionLog) -> None:
    record(log, columns=["prediction"], rows=[[7]], predictions=["Yes"], probability=None)
    log.flush()
    profile = profile_of({"prediction": np.array([7, 8]), "(prediction)": np.array(["No", "Yes"])})
    counted = log.summary("churn", profile, "k", START, START + HOUR)
    assert counted.columns["prediction"].counts == summarise(profile, {"prediction": [7]}).columns["prediction"].counts
    assert counted.columns["(prediction)"].counts == (0, 1)


def test_a_damaged_summary_is_made_anew(log: PredictionLog, lake: CountingLake) -> None:
    traffic(log, START, 30, timedelta(seconds=60))
    first = log.summary("churn", reference(), "k", START, START + HOUR)
    (stored,) = (f.path for f in lake.list("predictions/churn/2026-01-05/09/summary-"))
    for damage in (b"{", b"[]", json.dumps({"pieces": ["gone"], "parts": {"0": {"rows": 9}}}).encode()):
        lake.write(stored, damage)
        other = PredictionLog(lake, MovingClock())
        assert other.summary("churn", reference(), "k", START, START + HOUR) == first


# Health.


def test_health_counts_requests_errors_and_latency_of_one_deployment_since_a_moment(lake: CountingLake) -> None:
    clock = MovingClock(START + HOUR)
    log = PredictionLog(lake, clock)
    record(log, START - timedelta(seconds=1), milliseconds=900.0)
    for i in range(100):
        record(log, START + timedelta(seconds=i), milliseconds=float(i + 1))
    record(log, START, error="boom", predictions=[], probability=None, milliseconds=0.0)
    record(log, START, deployment="v2", version="2", milliseconds=500.0)
    record(log, clock.now())
    log.close()
    health = log.health("churn", "v1", START, None)
    assert (health.requests, health.errors, health.prediction_psi) == (102, 1, None)
    assert health.p95_ms == pytest.approx(95, abs=1.5)
    assert log.health("churn", "v3", START, reference()).requests == 0


def test_health_tells_a_shift_of_the_predictions_from_chance(lake: CountingLake) -> None:
    log = PredictionLog(lake, MovingClock(START + HOUR))
    traffic(log, START, 400, timedelta(seconds=5))
    assert log.health("churn", "v1", START, reference()).prediction_psi is None
    traffic(log, START, 400, timedelta(seconds=5), deployment="v2", predictions=["Yes"], probability=[0.95])
    shifted = log.health("churn", "v2", START, reference()).prediction_psi
    counted = log.summary("churn", reference(), "k", START, START + HOUR)
    assert shifted is not None and shifted > 1 > compare(reference(), counted)["tenure"].psi
    log.close()
