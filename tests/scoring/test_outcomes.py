"""Labels that land after predictions are joined with them, late, repeated, corrected or out of order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock
from shared.domain.landing import LandedFile
from shared.predictions import keyed_answers, landed_labels, outcomes
from shared.predictions.prediction_log import PredictionLog

WINDOW = timedelta(days=30)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Life:
    """Requests that are answered and labels that land, at hours after noon."""

    def __init__(self, folder: Path) -> None:
        self.lake = FolderLake(folder, "landfall", "lake")
        self.log = PredictionLog(self.lake, SystemClock())

    def answers(self, hours: float, keys: list[Any] | None, says: str = "Yes", version: str = "1", **more: Any) -> None:
        size = len(keys or ["none"])
        self.log.record(
            "churn", request_id="r", deployment=f"v{version}", version=version, at=NOON + hours * HOUR,
            milliseconds=1.0, columns=["x"], rows=[[1]] * size, predictions=[says] * size, probability=[0.7] * size,
            keys=keys, **more,
        )  # fmt: skip
        self.log.flush()

    def labels(self, hours: float, run: str = "b1", **labels: str) -> None:
        file = LandedFile(path="landing/churn/a.csv", etag="1", size=1, at=NOON + hours * HOUR)
        self.lake.write(landed_labels.path("churn", run, [file]), landed_labels.dumps(labels.items()))

    def found(self, version: str = "1", until: float = 48, window: timedelta = WINDOW) -> dict[str, tuple[str, str]]:
        end = NOON + until * HOUR
        outcomes.join(self.lake, self.log, "churn", window, end)
        newest = outcomes.newest(self.lake, "churn", version, end - window, end)
        return {outcome.key: (outcome.prediction, outcome.label) for outcome in newest}


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.log.close()


def test_a_late_label_meets_the_answer_of_its_key_and_others_wait(life: Life) -> None:
    life.answers(0, ["a", "b", 7])
    life.labels(26, a="No", **{"7": "Yes"})
    assert life.found(until=27) == {"a": ("Yes", "No"), "7": ("Yes", "Yes")}
    (first, _) = outcomes.newest(life.lake, "churn", "1", NOON, NOON + 27 * HOUR)
    assert (first.at, first.labelled_at) == (NOON, NOON + 26 * HOUR)


def test_a_label_tells_nothing_of_answers_that_were_given_after_it(life: Life) -> None:
    life.labels(1, a="No")
    life.answers(2, ["a"])
    assert life.found() == {}


def test_a_label_that_comes_later_than_the_window_is_not_waited_for(life: Life) -> None:
    life.answers(0, ["a"])
    life.labels(5, a="No")
    assert life.found(until=6, window=4 * HOUR) == {}


def test_a_repeated_label_counts_once_and_a_corrected_one_replaces_it(life: Life) -> None:
    life.answers(0, ["a", "b"])
    life.labels(2, "b1", a="No", b="No")
    life.labels(3, "b2", a="No", b="Yes")
    assert life.found(until=2.5) == {"a": ("Yes", "No"), "b": ("Yes", "No")}
    assert life.found() == {"a": ("Yes", "No"), "b": ("Yes", "Yes")}


def test_of_several_answers_of_a_version_the_last_before_the_label_counts(life: Life) -> None:
    for hours, says in ((0, "first"), (0.5, "second"), (1.5, "third"), (2.5, "after")):
        life.answers(hours, ["a"], says)
    life.labels(2, a="No")
    assert life.found() == {"a": ("third", "No")}


def test_each_version_has_its_own_outcomes(life: Life) -> None:
    life.answers(0, ["a"], "Yes", "1")
    life.answers(1, ["a"], "No", "2")
    life.labels(2, a="No")
    assert (life.found("1"), life.found("2"), life.found("3")) == ({"a": ("Yes", "No")}, {"a": ("No", "No")}, {})


def test_copies_failures_and_requests_without_keys_have_no_outcomes(life: Life) -> None:
    life.answers(0, None)
    life.answers(0, ["a"], mirrored=True)
    life.answers(0, [None, ["a"]])
    life.answers(0, ["a"], error="TimeoutError")
    life.labels(2, a="No")
    assert life.found() == {}


def test_what_is_kept_of_an_hour_is_made_anew_when_a_piece_of_it_comes_late(life: Life) -> None:
    life.answers(0.1, ["a"])
    life.labels(2, "b1", a="No")
    assert life.found(until=2.5) == {"a": ("Yes", "No")}
    life.answers(0.2, ["b"])
    life.labels(3, "b2", b="No")
    assert life.found() == {"a": ("Yes", "No"), "b": ("Yes", "No")}


def test_a_key_that_is_no_text_takes_no_other_label_with_it(life: Life) -> None:
    life.answers(0, ["\ud800", None, [1], {"b": 1}, float("inf"), "a"])
    life.labels(26, a="No")
    assert life.found(until=27) == {"a": ("Yes", "No")}


def test_keys_meet_whatever_type_landed_them(life: Life) -> None:
    life.answers(0, [1, "2", 3.0, "2026-03-01T10:00:00", "2026-03-01"])
    file = LandedFile(path="landing/churn/a.csv", etag="1", size=1, at=NOON + 2 * HOUR)
    keys = ["1", 2, 3, datetime(2026, 3, 1, 10), date(2026, 3, 1)]
    life.lake.write(landed_labels.path("churn", "b1", [file]), landed_labels.dumps((key, "No") for key in keys))
    assert life.found().keys() == {"1", "2", "3", "2026-03-01T10:00:00", "2026-03-01"}


def test_files_and_lines_that_are_no_labels_are_left_out(life: Life) -> None:
    life.answers(0, ["a", "b"])
    folder = landed_labels.folder("churn", NOON)
    life.lake.write(f"{folder}_SUCCESS", b"")
    file = LandedFile(path="landing/churn/a.csv", etag="1", size=1, at=NOON + 2 * HOUR)
    life.lake.write(landed_labels.path("churn", "b1", [file]), b'["a", "No"]\n7\n["b", "N')
    assert life.found() == {"a": ("Yes", "No")}


def test_what_is_kept_of_an_hour_is_made_anew_when_it_cannot_be_read(life: Life) -> None:
    life.answers(0, ["a"])
    life.labels(26, a="No")
    life.lake.write("predictions/churn/2026-03-01/12/keyed.json", b'{"pieces": ["')
    assert life.found(until=27) == {"a": ("Yes", "No")}


def test_of_more_keys_than_can_be_kept_answers_and_labels_keep_the_same(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_answers, "MOST", 10)
    keys = [f"k{n}" for n in range(100)]
    life.answers(0, keys)
    life.labels(2, **dict.fromkeys(keys, "No"))
    assert life.found().keys() == set(sorted(keys, key=landed_labels.rank)[:10])


EVENTS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from("ab"), st.sampled_from(["1", "2", "label"]), st.sampled_from("YN")),
    max_size=10,
    unique_by=lambda event: event[0],
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, order=st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str, str, str]], order: Any
) -> None:
    life = Life(tmp_path_factory.mktemp("life"))
    shuffled = sorted(events, key=lambda event: event[2] == "label")
    labels = [event for event in shuffled if event[2] == "label"]
    order.shuffle(labels)
    for hours, key, who, says in [event for event in shuffled if event[2] != "label"]:
        life.answers(hours, [key], says, who)
    for hours, key, _, says in labels:
        life.labels(hours, f"b{hours}", **{key: says})
        life.found()
    for version in ("1", "2"):
        expected = {}
        for key in "ab":
            for at, _, _, label in sorted((e for e in labels if e[1] == key), reverse=True):
                before = [e for e in events if e[1:3] == (key, version) and e[0] < at]
                if before:
                    expected[key] = (max(before)[3], label)
                    break
        assert life.found(version) == expected
    life.log.close()
