"""The RunLedger port."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shared.adapters.local import database
from shared.adapters.local.run_ledger import PAGE, SqliteLedger
from shared.domain.gate import Evaluation, Rule, SliceResult, Verdict
from shared.domain.landing import LandedFile
from shared.domain.ledger import (
    Batch,
    BatchFile,
    Claim,
    Decision,
    DriftCheck,
    Entry,
    PipelineState,
    RolloutState,
    Run,
    Step,
    Version,
)
from shared.errors import AlreadyExists, Conflict, LandfallError, Rejected, Transient
from shared.ports.run_ledger import UPDATE_ATTEMPTS, RunLedger
from tests.contracts.backends import Backend, LocalBackend
from tests.contracts.races import How, attempt, kill_in_the_middle, race

NOW = datetime(2026, 1, 5, 9, 30, 15, 123456, tzinfo=UTC)
FILE = LandedFile(path="landing/churn/a.csv", etag="0x8D", size=3, at=NOW)
ENTRIES: list[Entry] = [
    Claim(signal="DataLanded:lake/a@1", message="m", status="working", owner="o", lease_until=NOW, first_seen=NOW),
    Decision(
        pipeline="churn", id="d1", at=NOW, what="gate", outcome="done", reason="better", subjects=("churn:3", "a.csv")
    ),
    Batch(pipeline="churn", id="000001", status="closed", opened_at=NOW, closed_at=NOW, files=(FILE, FILE)),
    BatchFile(batch="churn/000001", file=FILE),
    Run(
        pipeline="churn",
        id="churn-b1",
        cause="landing",
        stage="training",
        status="running",
        created_at=NOW,
        updated_at=NOW,
        features_version=7,
        steps=(Step("features", "done", NOW, "7 rows"),),
    ),
    Version(
        pipeline="churn",
        version="3",
        status="champion",
        registered_at=NOW,
        evaluation=Evaluation(
            rows=10,
            challenger={"auc": 0.9},
            gain=0.1,
            slices=(SliceResult(column="contract", value="Two year", rows=5, challenger=0.9, champion=0.8, gain=0.1),),
        ),
        verdict=Verdict(promote=True, summary="better", rules=(Rule("gain", True, "0.1 > 0"),)),
    ),
    RolloutState(
        pipeline="churn",
        id="r1",
        endpoint="churn",
        challenger="3",
        champion="2",
        phase="baking",
        started_at=NOW,
        steps=(10, 50, 100),
        bake=timedelta(minutes=10),
        next_at=NOW,
    ),
    DriftCheck(
        pipeline="churn",
        id="x",
        at=NOW,
        status="drift",
        rows=5,
        version="3",
        columns={"tenure": {"psi": 0.3}},
        drifted=("tenure",),
    ),
    PipelineState(pipeline="churn", metrics={"auc": 0.9}, traffic={"v3": 90, "v2": 10}, recent_drift=(True, False)),
]
AWKWARD = ["a/b/c", "#?\\%", 'it\'s "quoted"', "löschen 数据 🛬", " ", "", "%' OR 1=1 --", "\U0010ffff", "k" * 500]


def decision(id: str, reason: str = "", pipeline: str = "churn") -> Decision:
    return Decision(pipeline=pipeline, id=id, at=NOW, what="test", outcome="done", reason=reason)


def state(batches: int) -> PipelineState:
    return PipelineState(pipeline="churn", batches=batches)


@pytest.fixture
def ledger(backend: Backend) -> RunLedger:
    return backend.ledger()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.KIND)
def test_an_entry_is_read_as_it_was_stored(ledger: RunLedger, backend: Backend, entry: Entry) -> None:
    stored = ledger.insert(entry)
    assert stored == entry
    assert stored.etag
    for reader in (ledger, backend.ledger()):
        found = reader.read(type(entry), entry.partition, entry.key)
        assert found == entry
        assert found.etag == stored.etag
        assert [(e, e.etag) for e in reader.list(type(entry), entry.partition)] == [(entry, stored.etag)]


def test_what_was_never_stored_is_none(ledger: RunLedger) -> None:
    ledger.insert(decision("a"))
    assert ledger.read(Decision, "churn", "b") is None
    assert ledger.read(Decision, "bank", "a") is None
    assert ledger.read(Run, "churn", "a") is None


def test_a_second_insert_of_the_same_key_is_refused(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a", "first"))
    with pytest.raises(AlreadyExists, match="decision churn/a"):
        ledger.insert(decision("a", "second"))
    found = ledger.read(Decision, "churn", "a")
    assert found == first
    assert found.etag == first.etag


def test_kind_and_partition_are_part_of_what_is_unique(ledger: RunLedger) -> None:
    ledger.insert(decision("state"))
    ledger.insert(decision("state", pipeline="bank"))
    ledger.insert(state(1))
    assert ledger.read(PipelineState, "churn", "state") == state(1)


def test_replace_stores_over_what_was_read(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a", "first"))
    second = ledger.replace(replace(first, reason="second"))
    assert second.etag not in ("", first.etag)
    found = ledger.read(Decision, "churn", "a")
    assert found == second
    assert found.etag == second.etag


def test_replace_is_refused_when_the_entry_was_changed_since(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a", "first"))
    second = ledger.replace(replace(first, reason="second"))
    with pytest.raises(Conflict, match="decision churn/a"):
        ledger.replace(replace(first, reason="late"))
    assert ledger.read(Decision, "churn", "a") == second


def test_replace_is_refused_when_the_entry_was_deleted_or_never_was(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a"))
    ledger.delete(Decision, "churn", "a")
    for entry in (first, decision("b")):
        with pytest.raises(Conflict):
            ledger.replace(entry)
        assert ledger.read(Decision, "churn", entry.id) is None


def test_an_entry_deleted_and_inserted_with_the_same_content_is_another_one(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a"))
    ledger.delete(Decision, "churn", "a")
    ledger.insert(decision("a"))
    with pytest.raises(Conflict):
        ledger.replace(replace(first, reason="late"))


def test_replace_with_the_same_content_still_gives_a_new_etag(ledger: RunLedger) -> None:
    first = ledger.insert(decision("a"))
    assert ledger.replace(first).etag != first.etag


def test_deleting_removes_and_deleting_again_does_nothing(ledger: RunLedger) -> None:
    ledger.insert(decision("a"))
    ledger.insert(decision("ab"))
    for _ in range(2):
        ledger.delete(Decision, "churn", "a")
        assert [entry.id for entry in ledger.list(Decision, "churn")] == ["ab"]


@pytest.mark.parametrize("key", AWKWARD, ids=ascii)
def test_awkward_keys_are_keys_like_others(ledger: RunLedger, key: str) -> None:
    stored = ledger.insert(decision(key, pipeline=key))
    ledger.insert(decision("other", pipeline=key))
    assert ledger.read(Decision, key, key) == stored
    assert stored in list(ledger.list(Decision, key, prefix=key))
    assert ledger.replace(replace(stored, reason="new")) == ledger.read(Decision, key, key)
    ledger.delete(Decision, key, key)
    assert [entry.id for entry in ledger.list(Decision, key)] == ["other"]


@pytest.mark.parametrize("key", ["k" * 501, "a\x00b", "a\nb", "\x7f", "\x85", "\ud800"], ids=ascii)
@pytest.mark.parametrize("place", ["partition", "key"])
def test_what_is_no_key_is_rejected_by_every_method(ledger: RunLedger, place: str, key: str) -> None:
    partition, id = (key, "a") if place == "partition" else ("churn", key)
    calls: list[Callable[[], Any]] = [
        lambda: ledger.insert(decision(id, pipeline=partition)),
        lambda: ledger.replace(decision(id, pipeline=partition)),
        lambda: ledger.read(Decision, partition, id),
        lambda: ledger.delete(Decision, partition, id),
        lambda: list(ledger.list(Decision, partition, prefix=id)),
    ]
    for call in calls:
        with pytest.raises(Rejected, match="key of the run ledger"):
            call()


def test_a_text_in_an_entry_may_hold_anything(ledger: RunLedger) -> None:
    text = "\x00\n\ud800 '\"\\ 🛬"
    ledger.insert(decision("a", text))
    found = ledger.read(Decision, "churn", "a")
    assert found is not None
    assert found.reason == text


def test_a_list_is_one_partition_in_key_order_by_code_point(ledger: RunLedger) -> None:
    keys = ["b", "a", "Z", "aa", "a/b", "é", "ﬀ", "🛬", "10", "9"]
    for key in keys:
        ledger.insert(decision(key))
    ledger.insert(decision("elsewhere", pipeline="churn-2"))
    ledger.insert(state(1))
    assert [entry.id for entry in ledger.list(Decision, "churn")] == sorted(keys)
    assert list(ledger.list(Decision, "nowhere")) == []


def test_a_list_by_prefix_takes_the_prefix_literally(ledger: RunLedger) -> None:
    for key in ("a", "a%b", "a%", "a_b", "ab", "a\U0010ffff", "b", "A%"):
        ledger.insert(decision(key))
    assert [entry.id for entry in ledger.list(Decision, "churn", prefix="a%")] == ["a%", "a%b"]
    assert [entry.id for entry in ledger.list(Decision, "churn", prefix="a\U0010ffff")] == ["a\U0010ffff"]
    assert list(ledger.list(Decision, "churn", prefix="zz")) == []


def test_a_list_may_start_at_any_key(ledger: RunLedger) -> None:
    keys = ["a", "a/b", "a0", "b", "b%", "é", "long" * 110 + "x", "long" * 110 + "y", "long" * 110]
    for key in keys:
        ledger.insert(decision(key))
    for start in (*keys, "", "0", "a!", "a/", "c", "🛬"):
        after = sorted(key for key in keys if key >= start)
        assert [entry.id for entry in ledger.list(Decision, "churn", start=start)] == after
        assert [entry.id for entry in ledger.list(Decision, "churn", start=start, limit=2)] == after[:2]
        prefixed = [key for key in after if key.startswith("b")]
        assert [entry.id for entry in ledger.list(Decision, "churn", start=start, prefix="b")] == prefixed


def test_a_list_stops_at_its_limit_or_its_end(ledger: RunLedger) -> None:
    keys = [f"{number:04}" for number in range(2 * PAGE + 10)]
    for key in keys:
        ledger.insert(decision(key))
    for limit in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5, 10 * PAGE, None):
        assert [entry.id for entry in ledger.list(Decision, "churn", limit=limit)] == keys[:limit]


def test_the_ledger_may_be_changed_while_a_list_is_read(ledger: RunLedger, backend: Backend) -> None:
    for number in range(3):
        ledger.insert(decision(str(number)))
    for entry in ledger.list(Decision, "churn"):
        backend.ledger().insert(decision(f"other {entry.id}", pipeline="bank"))
        ledger.delete(Decision, "churn", entry.id)
    assert list(ledger.list(Decision, "churn")) == []
    assert len(list(ledger.list(Decision, "bank"))) == 3


def test_update_makes_the_first_entry_and_changes_the_next(ledger: RunLedger) -> None:
    def count(present: PipelineState | None) -> PipelineState:
        return replace(present, batches=present.batches + 1) if present else state(1)

    assert ledger.update(PipelineState, "churn", "state", count) == state(1)
    second = ledger.update(PipelineState, "churn", "state", count)
    found = ledger.read(PipelineState, "churn", "state")
    assert found == second == state(2)
    assert found.etag == second.etag


def test_update_takes_an_entry_that_was_made_anew(ledger: RunLedger) -> None:
    ledger.insert(state(1))
    assert ledger.update(PipelineState, "churn", "state", lambda _: state(9)) == state(9)


def test_update_that_changes_nothing_writes_nothing(ledger: RunLedger) -> None:
    first = ledger.insert(state(1))
    assert ledger.update(PipelineState, "churn", "state", lambda present: present or state(0)).etag == first.etag
    found = ledger.read(PipelineState, "churn", "state")
    assert found is not None
    assert found.etag == first.etag


def test_update_gives_up_when_other_writers_win_every_time(ledger: RunLedger, backend: Backend) -> None:
    ledger.insert(state(0))
    other, calls = backend.ledger(), 0

    def interfered(present: PipelineState | None) -> PipelineState:
        nonlocal calls
        calls += 1
        other.update(PipelineState, "churn", "state", lambda now: state(now.batches + 1 if now else 0))
        return state(-1)

    with pytest.raises(Transient, match="state churn/state"):
        ledger.update(PipelineState, "churn", "state", interfered)
    assert calls == UPDATE_ATTEMPTS
    assert ledger.read(PipelineState, "churn", "state") == state(UPDATE_ATTEMPTS)


def insert_same(backend: Backend, index: int) -> list[bool]:
    ledger = backend.ledger()
    return [attempt(AlreadyExists, ledger.insert, decision(str(n), f"by {index}")) for n in range(25)]


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_of_inserts_that_race_exactly_one_wins(backend: Backend, how: How) -> None:
    won = race(how, 4, insert_same, backend)
    for number in range(25):
        winners = [index for index in range(4) if won[index][number]]
        assert len(winners) == 1
        found = backend.ledger().read(Decision, "churn", str(number))
        assert found is not None
        assert found.reason == f"by {winners[0]}"


def replace_same(backend: Backend, read: PipelineState, index: int) -> bool:
    return attempt(Conflict, backend.ledger().replace, replace(read, champion=str(index)))


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_of_replaces_that_race_exactly_one_wins(backend: Backend, how: How) -> None:
    read = backend.ledger().insert(state(0))
    won = race(how, 4, replace_same, backend, read)
    assert won.count(True) == 1
    found = backend.ledger().read(PipelineState, "churn", "state")
    assert found is not None
    assert found.champion == str(won.index(True))


def count_up(backend: Backend, ledger: RunLedger | None, index: int) -> None:
    ledger = ledger or backend.ledger()
    done = 0
    while done < 25:
        done += attempt(
            Transient,
            ledger.update,
            PipelineState,
            "churn",
            "state",
            lambda present: state(present.batches + 1 if present else 1),
        )


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_no_update_is_lost_among_many_writers(backend: Backend, how: How) -> None:
    race(how, 4, count_up, backend, None)
    assert backend.ledger().read(PipelineState, "churn", "state") == state(100)


def test_threads_may_share_one_ledger(backend: Backend) -> None:
    threads = 8 if isinstance(backend, LocalBackend) else 3
    race("threads", threads, count_up, backend, backend.ledger())
    assert backend.ledger().read(PipelineState, "churn", "state") == state(25 * threads)


def insert_for_ever(backend: Backend, acknowledge: Any) -> None:
    ledger = backend.ledger()
    for number in range(1_000_000):
        ledger.insert(decision(f"{number:07}"))
        acknowledge(number)


def test_what_was_acknowledged_outlives_a_killed_writer(backend: Backend) -> None:
    acknowledged = kill_in_the_middle(insert_for_ever, backend, after=50)
    found = [int(entry.id) for entry in backend.ledger().list(Decision, "churn")]
    # The insert after the last acknowledged one may have been done.
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) - len(acknowledged) in (0, 1)
    backend.ledger().insert(decision("after"))


KEYS = st.sampled_from(["a", "b", "a/b", "é", "%"])


class LedgerMachine(RuleBasedStateMachine):
    """A ledger must behave as a dict of (entry, etag) with compare-and-swap."""

    def __init__(self, ledger: RunLedger) -> None:
        super().__init__()
        self.ledger = ledger
        self.model: dict[tuple[str, str], Decision] = {}
        self.etags = [""]

    @rule(partition=KEYS, key=KEYS, reason=st.text(max_size=3))
    def insert(self, partition: str, key: str, reason: str) -> None:
        entry = decision(key, reason, partition)
        if (partition, key) in self.model:
            assert not attempt(AlreadyExists, self.ledger.insert, entry)
        else:
            self.remember(self.ledger.insert(entry))

    @rule(partition=KEYS, key=KEYS, reason=st.text(max_size=3), data=st.data())
    def replace(self, partition: str, key: str, reason: str, data: st.DataObject) -> None:
        present = self.model.get((partition, key))
        # By age, not by value: an etag's text is another in every run.
        etag = self.etags[data.draw(st.integers(0, len(self.etags) - 1))]
        entry = replace(decision(key, reason, partition), etag=etag)
        if present and present.etag == etag:
            self.remember(self.ledger.replace(entry))
        else:
            assert not attempt(Conflict, self.ledger.replace, entry)

    @rule(partition=KEYS, key=KEYS, reason=st.text(max_size=3))
    def update(self, partition: str, key: str, reason: str) -> None:
        stored = self.ledger.update(Decision, partition, key, lambda _: decision(key, reason, partition))
        present = self.model.get((partition, key))
        if present == stored:
            assert present.etag == stored.etag
        else:
            self.remember(stored)

    @rule(partition=KEYS, key=KEYS)
    def delete(self, partition: str, key: str) -> None:
        self.ledger.delete(Decision, partition, key)
        self.model.pop((partition, key), None)

    @rule(partition=KEYS, prefix=st.sampled_from(["", "a", "a/", "é"]), limit=st.sampled_from([None, 0, 1, 2]))
    def list(self, partition: str, prefix: str, limit: int | None) -> None:
        expected = [
            entry for (p, key), entry in sorted(self.model.items()) if p == partition and key.startswith(prefix)
        ]
        assert [*self.ledger.list(Decision, partition, prefix=prefix, limit=limit)] == expected[:limit]

    @invariant()
    def every_entry_is_as_in_the_model(self) -> None:
        for (partition, key), entry in self.model.items():
            found = self.ledger.read(Decision, partition, key)
            assert found == entry
            assert found.etag == entry.etag

    def remember(self, stored: Decision) -> None:
        assert stored.etag not in self.etags
        self.etags.append(stored.etag)
        self.model[stored.partition, stored.key] = stored


def test_a_ledger_behaves_as_a_dict(backend: Backend) -> None:
    examples = 25 if isinstance(backend, LocalBackend) else 3
    run_state_machine_as_test(
        lambda: LedgerMachine(backend.empty().ledger()),
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None),
    )


# What follows is about SQLite on a laptop.


def test_making_a_ledger_touches_nothing(local: LocalBackend) -> None:
    local.ledger()
    assert list(local.home.iterdir()) == []


def test_the_ledger_makes_its_folder_when_it_is_first_used(local: LocalBackend) -> None:
    ledger = SqliteLedger(local.home / "new" / "ledger.db")
    assert ledger.read(Decision, "churn", "a") is None
    assert (local.home / "new" / "ledger.db").exists()


def test_a_closed_ledger_opens_again(local: LocalBackend) -> None:
    ledger = local.ledger()
    ledger.insert(decision("a"))
    ledger.close()
    assert not (local.home / "ledger.db-wal").exists()
    assert ledger.read(Decision, "churn", "a") is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_parent_and_forked_child_both_go_on_with_a_ledger_in_use(local: LocalBackend) -> None:
    ledger = local.ledger()
    ledger.insert(decision("before"))
    stop = threading.Event()

    def keep_writing() -> None:
        for number in range(1_000_000):
            if stop.is_set():
                return
            ledger.insert(decision(str(number), pipeline="meanwhile"))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        children = []
        for index in range(3):
            pid = os.fork()
            if pid == 0:
                try:
                    assert ledger.read(Decision, "churn", "before") is not None
                    ledger.insert(decision(f"child {index}"))
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    finally:
        stop.set()
        writer.join()
    ledger.insert(decision("after"))
    ids = [entry.id for entry in local.ledger().list(Decision, "churn")]
    assert ids == ["after", "before", "child 0", "child 1", "child 2"]


def test_a_ledger_locked_by_another_for_too_long_is_transient_and_nothing_was_written(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    ledger = local.ledger()
    ledger.insert(decision("a"))
    other = sqlite3.connect(local.home / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient, match=r"ledger\.db cannot be used now: database is locked"):
        ledger.insert(decision("b"))
    assert ledger.read(Decision, "churn", "a") is not None, "readers do not wait for writers"
    other.execute("ROLLBACK")
    other.close()
    assert ledger.read(Decision, "churn", "b") is None
    ledger.insert(decision("b"))


def test_a_file_that_is_no_database_is_named_with_what_to_do(local: LocalBackend) -> None:
    (local.home / "ledger.db").write_text("this was never a database " * 100)
    with pytest.raises(LandfallError, match=r"ledger\.db is damaged or no SQLite file.*move it aside"):
        local.ledger().read(Decision, "churn", "a")


def test_a_place_that_cannot_hold_a_database_is_transient(local: LocalBackend) -> None:
    (local.home / "ledger.db").mkdir()
    with pytest.raises(Transient, match=r"ledger\.db cannot be used now"):
        local.ledger().insert(decision("a"))
