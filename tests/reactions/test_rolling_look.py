"""Reconcile looks at some at a time, and misses nothing in the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from shared import rolling_look
from shared.adapters.local import lake as folder_lake
from shared.domain.ledger import Batch, Landed
from shared.domain.signals import ReconcileDue
from tests.reactions.world import PIPELINE, Crash, World

ROUND = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lake, "PAGE", 2)
    monkeypatch.setattr(rolling_look, "PAGES", 2)
    monkeypatch.setattr(rolling_look, "BATCHES", 2)
    monkeypatch.setattr(rolling_look, "STRIDE", 1)


def reconcile(world: World, rounds: int = 1) -> None:
    for _ in range(rounds):
        world.queue.send(ReconcileDue(slot=world.clock.now()))
        world.drain(ROUND)


def put(world: World, path: str, content: str, *, days_old: int = 0) -> Path:
    """A file that nobody tells of, with the time of long ago."""
    place = Path(world.lake.uri(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    then = world.clock.at.timestamp() - days_old * 86400
    os.utime(place, (then, then))
    return place


def in_batches(world: World) -> list[tuple[str, int]]:
    return sorted((file.path, file.size) for batch in world.batches for file in batch.files)


@pytest.mark.parametrize("seed", range(2))
def test_files_that_come_late_old_moved_linked_or_written_over_are_each_found_once(tmp_path: Path, seed: int) -> None:
    world, chance = World(tmp_path), random.Random(seed)
    expected: set[tuple[str, int]] = set()
    names = ["landing/churn/" + "/".join(chance.sample("abcdef", chance.randint(1, 3))) + f"{n}.csv" for n in range(10)]
    names += [f"landing/churn/{'long' * 50}/{'name' * 55}{n}.csv" for n in range(2)]
    chance.shuffle(names)
    size = 0
    for number, path in enumerate(names):
        size += 1
        place = put(world, path, "x" * size, days_old=chance.choice([0, 1, 4000]))
        expected.add((path, size))
        if number % 4 == 0:
            # Known to the ledger, gone from the lake, and there again under names before and behind.
            reconcile(world, 6)
            for top, move in (("0", os.link), ("zz", os.rename)):
                there = Path(world.lake.uri(f"landing/churn/{top}/{number}.csv"))
                there.parent.mkdir(exist_ok=True)
                move(place, there)
                expected.add((f"landing/churn/{top}/{number}.csv", size))
        elif number % 5 == 0:
            reconcile(world, 6)
            size += 1
            put(world, path, "y" * size, days_old=5000)
            expected.add((path, size))
        if chance.random() < 0.5:
            reconcile(world)
    reconcile(world, 10)
    assert in_batches(world) == sorted(expected)
    folder = world.loop.catalog.get("churn")
    assert [info for _ in range(8) for info in rolling_look.unknown_files(world.loop, folder)] == []
    world.close()


def test_what_a_reconcile_reads_does_not_grow_with_what_has_landed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        put(world, f"landing/churn/{number:02}.csv", "x")
    reconcile(world, 11)
    assert len(in_batches(world)) == 40
    read: list[str] = []
    page, listed = world.lake.page, world.loop.ports.ledger.list

    def paged(prefix: str, after: str = "") -> object:
        files, following = page(prefix, after)
        read.extend(file.path for file in files)
        return files, following

    def counted(kind: type, *arguments: object, **named: object) -> object:
        for entry in listed(kind, *arguments, **named):
            if kind in (Landed, Batch):
                read.append(entry.key)
            yield entry

    monkeypatch.setattr(world.lake, "page", paged)
    monkeypatch.setattr(type(world.loop.ports.ledger), "list", lambda _, kind, *a, **n: counted(kind, *a, **n))
    reconcile(world)
    assert 4 <= len(read) <= 12, "four files, their entries, and two batches"


def test_a_file_is_not_passed_over_when_the_process_dies_in_the_middle_of_a_look(tmp_path: Path) -> None:
    for fuse in range(2, 16, 3):
        world = World(tmp_path / str(fuse))
        for number in range(9):
            put(world, f"landing/churn/{number}.csv", "x")
        world.fuse.left = fuse
        reconcile(world, 4)
        assert world.fuse.left is None
        reconcile(world, 3)
        assert in_batches(world) == [(f"landing/churn/{number}.csv", 1) for number in range(9)]
        world.close()


@pytest.mark.parametrize("each", [False, True])
def test_a_batch_of_which_only_the_ledger_knows_is_found_among_many(tmp_path: Path, each: bool) -> None:
    world = World(tmp_path, PIPELINE.replace("quiet: 30s, max_wait: 10m", "each_file: true") if each else PIPELINE)
    world.to_champion()
    for number in range(9):
        old = Batch(pipeline="churn", id=f"b1{number:05}", status="accepted", opened_at=world.clock.at, run="old")
        world.ledger.insert(old)
    world.ledger.insert(Batch(pipeline="churn", id="z", status="open", opened_at=world.clock.at))
    world.clock.at += timedelta(hours=1)
    reconcile(world, 8)
    assert [batch.status for batch in world.batches if batch.id == "z"] == ["empty"]


def test_a_closed_batch_whose_process_died_before_its_run_begins_within_one_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared import runs

    def die(*_: object) -> None:
        raise Crash

    world.land("landing/churn/a.csv")
    with monkeypatch.context() as dying:
        dying.setattr(runs, "begin", die)
        world.drain(timedelta(minutes=1))
    assert world.state.closed_batches == ("b000001",)
    world.queue.messages.clear()
    monkeypatch.setattr(rolling_look, "batches", lambda *_: iter(()))
    world.clock.at += timedelta(minutes=3)
    reconcile(world)
    assert [run.id for run in world.runs] == ["churn-b000001"]
    reconcile(world)
    assert world.state.closed_batches == ()


def test_many_pipelines_take_turns_and_what_is_under_way_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_look, "PIPELINES", 2)
    names = [f"pipe{number}" for number in range(5)]

    world = World(tmp_path, PIPELINE, *names)
    asked: list[str] = []
    versions: Callable[[str], object] = world.services.versions
    monkeypatch.setattr(world.services, "versions", lambda name: asked.append(name) or versions(name))
    for name in ("churn", *names):
        put(world, f"landing/{name}/a.csv", "x")
    reconcile(world, 3)
    found = [name for name in ("churn", *names) if any(world.ledger.list(Landed, name))]
    assert found == ["churn", *names]
    asked.clear()
    reconcile(world, 3)
    assert len(asked) < 3 * 6
    world.close()
