from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain.signals import DataLanded, ReconcileDue
from shared.reactions import data_landed
from tests.reactions.world import PIPELINE, World

QUIET = timedelta(seconds=35)


def test_files_that_land_together_are_one_batch_and_one_run(world: World) -> None:
    for name in "abc":
        world.land(f"landing/churn/{name}.csv")
    world.drain(QUIET)
    assert [len(batch.files) for batch in world.batches] == [3]
    assert [run.id for run in world.runs] == ["churn-b000001"]


def test_a_file_that_lands_after_the_quiet_window_is_another_batch(world: World) -> None:
    world.land("landing/churn/a.csv")
    world.drain(QUIET)
    world.land("landing/churn/b.csv")
    world.drain(QUIET)
    assert [batch.id for batch in world.batches] == ["b000001", "b000002"]


def test_a_batch_stays_open_while_files_keep_coming_but_no_longer_than_max_wait(world: World) -> None:
    for minute in range(14):
        world.land(f"landing/churn/{minute}.csv")
        world.drain(timedelta(seconds=20))
        world.land(f"landing/churn/{minute}b.csv")
        world.drain(timedelta(seconds=20))
        world.land(f"landing/churn/{minute}c.csv")
        world.drain(timedelta(seconds=20))
    first = world.batches[0]
    assert first.closed_at is not None
    assert timedelta(minutes=10) <= first.closed_at - first.opened_at < timedelta(minutes=11)


def test_the_same_event_twice_has_no_second_effect_and_says_so(world: World) -> None:
    signal = world.land()
    world.drain()
    world.queue.send(signal)
    world.drain(timedelta(hours=1))
    assert len(world.runs) == 1
    assert "duplicate of a signal" in world.reasons("nothing")


def test_create_and_flush_of_one_file_are_one_file(world: World) -> None:
    world.event("landing/churn/a.csv", api="CreateFile", size=0)
    world.land("landing/churn/a.csv")
    world.drain(QUIET)
    assert [len(batch.files) for batch in world.batches] == [1]
    assert "CreateFile" in world.reasons("nothing")


def test_an_event_of_an_older_version_of_the_file_is_stale(world: World) -> None:
    old = world.land("landing/churn/a.csv", b"old")
    world.queue.messages.clear()
    world.land("landing/churn/a.csv", b"newer")
    world.queue.send(old)
    world.drain(QUIET)
    assert [len(batch.files) for batch in world.batches] == [1]
    assert "stale" in world.reasons("nothing")


@pytest.mark.parametrize("renamed", ["landing/churn/today", "landing/churn", "landing"])
def test_a_folder_renamed_into_place_lands_with_all_its_files_wherever_its_top_is(world: World, renamed: str) -> None:
    for name in "ab":
        world.lake.write(f"landing/churn/today/{name}.csv", b"x")
    world.lake.write("landing/elsewhere/c.csv", b"x")
    world.event(renamed, api="RenameDirectory")
    world.drain(QUIET)
    assert [[file.path for file in batch.files] for batch in world.batches] == [
        ["landing/churn/today/a.csv", "landing/churn/today/b.csv"]
    ]


def test_a_folder_renamed_to_where_no_pipeline_lands_is_recorded(world: World) -> None:
    world.lake.write("landing/elsewhere/c.csv", b"x")
    world.event("landing/elsewhere", api="RenameDirectory")
    world.drain(QUIET)
    assert "no pipeline lands at landing/elsewhere" in world.reasons("nothing", "-")


def test_a_file_of_a_foreign_account_is_rejected(world: World) -> None:
    signal = DataLanded(
        account="stranger", container="lake", path="landing/churn/a.csv", api="PutBlob", event="e", at=world.clock.at
    )
    world.queue.send(signal)
    world.drain()
    assert "stranger" in world.reasons("rejected")
    assert world.batches == []


def test_a_file_that_belongs_to_no_pipeline_is_recorded(world: World) -> None:
    world.land("landing/elsewhere/a.csv")
    world.drain()
    assert "no pipeline lands at landing/elsewhere/a.csv" in world.reasons("nothing", "-")


@pytest.mark.parametrize("path", ["landing/churn/../x.csv", "/etc/passwd", "landing/churn/a\\b.csv"])
def test_path_tricks_are_recorded_and_touch_nothing(world: World, path: str) -> None:
    world.event(path)
    world.drain(QUIET)
    assert world.batches == []
    assert len(world.decisions("-")) + len(world.decisions()) == 1


def test_a_file_that_was_deleted_before_its_event_came_is_recorded(world: World) -> None:
    world.event("landing/churn/a.csv", etag="0x1")
    world.drain()
    assert "the file is gone" in world.reasons("nothing")


def test_a_copied_file_counts_only_when_it_no_longer_changes(world: World) -> None:
    world.land("landing/churn/a.csv", b"half", api="CopyBlob")
    world.drain(timedelta(seconds=20))
    whole = world.lake.write("landing/churn/a.csv", b"half and the rest")
    world.drain(timedelta(seconds=15))
    assert world.batches[0].status == "open"
    world.drain(timedelta(seconds=60))
    assert world.batches[0].files[0].etag == whole.etag


def test_a_marker_closes_the_batch_of_its_folder_with_files_whose_events_never_came(tmp_path: Path) -> None:
    world = World(tmp_path / "w", PIPELINE.replace("{quiet: 30s, max_wait: 10m}", "{marker: _SUCCESS, max_wait: 10m}"))
    world.land("landing/churn/one/part-0.csv")
    world.lake.write("landing/churn/one/part-1.csv", b"no event came")
    world.land("landing/churn/two/part-0.csv")
    world.drain(timedelta(minutes=1))
    assert [batch.status for batch in world.batches] == ["open", "open"]
    world.land("landing/churn/one/_SUCCESS", b"")
    world.drain(timedelta(minutes=1))
    closed = [batch for batch in world.batches if batch.files]
    assert [[file.path for file in batch.files] for batch in closed] == [
        ["landing/churn/one/part-0.csv", "landing/churn/one/part-1.csv"]
    ]
    world.drain(timedelta(minutes=10))
    assert len([batch for batch in world.batches if batch.files]) == 2, "max_wait closes the folder without a marker"


def test_each_file_can_be_a_batch_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path / "w", PIPELINE.replace("{quiet: 30s, max_wait: 10m}", "{each_file: true}"))
    for name in "abc":
        world.land(f"landing/churn/{name}.csv")
    world.drain(timedelta(hours=3))
    assert [len(batch.files) for batch in world.batches] == [1, 1, 1]
    assert len(world.runs) == 3


def test_too_few_rows_wait_for_more(tmp_path: Path) -> None:
    world = World(tmp_path / "w", PIPELINE.replace("quiet: 30s", "quiet: 30s, min_rows: 25"))
    world.land("landing/churn/a.csv")
    world.drain(timedelta(minutes=2))
    assert world.runs[0].status == "superseded"
    assert "fewer than min_rows 25" in world.runs[0].reason
    world.land("landing/churn/b.csv")
    world.land("landing/churn/c.csv")
    world.drain(timedelta(minutes=2))
    assert [len(run.batches) for run in world.runs] == [1, 1]
    assert len(world.batches[1].files) == 3
    assert world.runs[1].stage != "features"


def test_too_few_rows_are_taken_when_max_wait_is_over(tmp_path: Path) -> None:
    world = World(tmp_path / "w", PIPELINE.replace("quiet: 30s", "quiet: 30s, min_rows: 25"))
    world.land("landing/churn/a.csv")
    world.drain(timedelta(hours=1))
    assert world.state.champion == "1"


def test_a_file_written_again_after_the_clock_went_back_is_one_batch_however_often_reconcile_looks(
    world: World,
) -> None:
    world.to_champion()
    world.clock.at -= timedelta(hours=6)
    world.land("landing/churn/a.csv", b"new")
    world.drain(timedelta(minutes=20))
    for _ in range(3):
        world.queue.send(ReconcileDue(slot=world.clock.at))
        world.drain(timedelta(minutes=5))
    assert [batch.id for batch in world.batches] == ["b000001", "b000002"]


def test_an_older_version_that_is_remembered_late_does_not_hide_the_one_that_the_lake_has(world: World) -> None:
    world.land("landing/churn/a.csv", b"old")
    world.drain(QUIET)
    late = world.batches[0].files[0]
    world.land("landing/churn/a.csv", b"newer")
    world.drain(QUIET)
    data_landed.remember(world.loop, world.batches[0], late)
    world.queue.send(ReconcileDue(slot=world.clock.at))
    world.drain(QUIET)
    assert len(world.batches) == 2


def test_nothing_landed_for_too_long_raises_one_alarm(world: World) -> None:
    world.to_champion()
    for _ in range(3):
        world.clock.at += timedelta(days=4)
        world.queue.send(ReconcileDue(slot=world.clock.at))
        world.drain()
    assert world.reasons("alarm").count("nothing has landed") == 1
    world.land("landing/churn/b.csv")
    world.drain(timedelta(hours=2))
    world.queue.send(ReconcileDue(slot=world.clock.at))
    world.drain()
    assert world.state.missing_since is None


def test_a_rejected_batch_ends_its_run_with_the_faults_and_is_in_no_later_one(world: World) -> None:
    world.services.manifest_status = "rejected"
    world.land("landing/churn/bad.csv")
    world.drain(QUIET)
    assert (world.runs[0].status, world.batches[0].status) == ("rejected", "rejected")
    assert "3 rows have a negative tenure" in world.runs[0].reason
    world.services.manifest_status = "ready"
    world.land("landing/churn/good.csv")
    world.drain(QUIET)
    job = world.services.features_jobs["churn-b000002-features"]
    assert [file.path for file in (*job.earlier, *job.files)] == ["landing/churn/good.csv"]


def test_a_batch_whose_features_job_crashed_is_prepared_again_with_the_next(world: World) -> None:
    world.services.manifest_status = "crashed"
    world.land("landing/churn/a.csv")
    world.drain(QUIET)
    world.clock.at += timedelta(minutes=5)
    world.queue.send(ReconcileDue(slot=world.clock.at))
    world.drain()
    assert world.runs[0].status == "failed"
    assert "boom" in world.runs[0].reason
    world.services.manifest_status = "ready"
    world.land("landing/churn/b.csv")
    world.drain(QUIET)
    job = world.services.features_jobs["churn-b000002-features"]
    assert [file.path for file in job.files] == ["landing/churn/a.csv", "landing/churn/b.csv"]
