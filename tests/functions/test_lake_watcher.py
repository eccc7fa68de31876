"""The lake folder tells what ADLS Gen2 would tell."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landfall.host import LaptopHost
from landfall.host.lake_watcher import wanted
from shared.adapters.local.lake import FolderLake
from shared.domain.events import delivered, storage_signal
from shared.domain.signals import DataLanded
from tests.functions.tiny_app import Seen, until


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(tmp_path / "lake", "landfall", "lake")


@pytest.fixture
def root(host: LaptopHost, tmp_path: Path) -> Path:
    return tmp_path / "lake"


def told(seen: Seen, api: str = "") -> list[tuple[str, str]]:
    """(api, path) of the storage events so far."""
    events = [(e.get_json()["api"], e.subject.partition("/blobs/")[2]) for e in seen.of("event_storage")]
    return [pair for pair in events if api in ("", pair[0])]


def closed(seen: Seen, *paths: str) -> None:
    until(lambda: {path for _, path in told(seen, "FlushWithClose")} >= set(paths), what=f"{paths} in {told(seen)}")


def landed(event: Any) -> DataLanded:
    signal = storage_signal(delivered(event))
    assert isinstance(signal, DataLanded)
    return signal


def test_a_file_of_the_lake_gives_create_and_flush_with_its_etag(root: Path, lake: FolderLake, seen: Seen) -> None:
    info = lake.write("landing/churn/ä b.csv", b"a,b\n1,2\n")
    created, flushed = seen.wait("event_storage", 2)
    assert (created.get_json()["api"], created.get_json()["contentLength"]) == ("CreateFile", 0)
    signal = landed(flushed)
    assert (signal.api, signal.account, signal.container) == ("FlushWithClose", "landfall", "lake")
    assert (signal.path, signal.etag, signal.size) == ("landing/churn/ä b.csv", info.etag, 8)
    assert landed(created).key != signal.key
    assert created.get_json()["sequencer"] < flushed.get_json()["sequencer"]
    assert flushed.get_json()["url"].startswith("https://landfall.dfs.core.windows.net/lake/landing/churn/%C3%A4%20b")
    assert flushed.topic.endswith("/storageAccounts/landfall")


def test_a_slowly_written_file_is_flushed_once_when_it_is_whole(root: Path, seen: Seen, lake: FolderLake) -> None:
    (root / "landing").mkdir()
    with (root / "landing" / "slow.csv").open("w") as file:
        for row in range(8):
            file.write(f"{row}\n")
            file.flush()
            time.sleep(0.12)
            assert told(seen, "FlushWithClose") == []
    closed(seen, "landing/slow.csv")
    flushed = [landed(e) for e in seen.of("event_storage") if e.get_json()["api"] == "FlushWithClose"]
    assert [(s.size, s.etag) for s in flushed] == [(16, lake.stat("landing/slow.csv").etag)]  # type: ignore[union-attr]
    assert told(seen) == [("CreateFile", "landing/slow.csv"), ("FlushWithClose", "landing/slow.csv")]


def test_a_whole_file_moved_into_the_lake_is_told_at_once(root: Path, tmp_path: Path, seen: Seen) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("1\n")
    os.utime(outside, (1_700_000_000, 1_700_000_000))
    outside.rename(root / "moved.csv")
    created, flushed = seen.wait("event_storage", 2)
    assert landed(created).api == "CreateFile"
    assert landed(flushed).api == "FlushWithClose"
    assert (landed(flushed).at - landed(created).at).total_seconds() < 0.05


def test_a_file_written_over_is_flushed_again_with_another_etag(root: Path, lake: FolderLake, seen: Seen) -> None:
    lake.write("x.csv", b"1")
    closed(seen, "x.csv")
    lake.write("x.csv", b"2")
    until(lambda: len(told(seen, "FlushWithClose")) == 2)
    etags = [landed(e).etag for e in seen.of("event_storage") if e.get_json()["api"] == "FlushWithClose"]
    assert len(set(etags)) == 2


def test_many_files_in_new_folders_are_all_told_once(root: Path, seen: Seen) -> None:
    paths = [f"landing/day-{number % 7}/hour-{number % 3}/part-{number}.csv" for number in range(300)]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    closed(seen, *paths)
    assert sorted(path for _, path in told(seen, "FlushWithClose")) == sorted(paths)


def test_a_file_renamed_in_the_lake_is_renamed_not_created(root: Path, lake: FolderLake, seen: Seen) -> None:
    lake.write("landing/_temporary/part-0", b"1")
    closed(seen, "landing/_temporary/part-0")
    (root / "landing/_temporary/part-0").rename(root / "landing/part-0")
    until(lambda: ("RenameFile", "landing/part-0") in told(seen))
    event = seen.of("event_storage")[-1]
    assert event.event_type == "Microsoft.Storage.BlobRenamed"
    assert event.get_json()["sourceUrl"].endswith("/lake/landing/_temporary/part-0")
    assert landed(event).path == "landing/part-0"
    assert told(seen, "FlushWithClose") == [("FlushWithClose", "landing/_temporary/part-0")]


def test_the_files_of_a_renamed_folder_are_renamed(root: Path, lake: FolderLake, seen: Seen) -> None:
    lake.write("landing/draft/a.csv", b"a")
    lake.write("landing/draft/b.csv", b"b")
    closed(seen, "landing/draft/a.csv", "landing/draft/b.csv")
    (root / "landing/draft").rename(root / "landing/final")
    until(lambda: {path for _, path in told(seen, "RenameFile")} == {"landing/final/a.csv", "landing/final/b.csv"})


def test_a_folder_moved_into_the_lake_tells_its_files(root: Path, tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    (tmp_path / "outside" / "deep" / "a.csv").write_text("1")
    shutil.move(tmp_path / "outside", root / "landing")
    closed(seen, "landing/deep/a.csv")


def test_a_file_that_is_removed_before_it_is_whole_is_never_flushed(root: Path, lake: FolderLake, seen: Seen) -> None:
    (root / "gone.csv").write_text("1")
    until(lambda: told(seen, "CreateFile"))
    (root / "gone.csv").unlink()
    lake.write("stays.csv", b"1")
    closed(seen, "stays.csv")
    assert ("FlushWithClose", "gone.csv") not in told(seen)


def test_files_that_were_there_before_the_host_give_nothing(
    lake: FolderLake, run_host: Callable[..., LaptopHost], seen: Seen
) -> None:
    lake.write("old.csv", b"1")
    run_host()
    lake.write("new.csv", b"1")
    closed(seen, "new.csv")
    assert {path for _, path in told(seen)} == {"new.csv"}


def test_what_no_subscription_asks_for_gives_nothing(root: Path, lake: FolderLake, seen: Seen) -> None:
    lake.write("predictions/churn/2026-01-05/09/x.jsonl", b"{}")
    lake.write("features/churn/run-1/train/part-0.parquet", b"1")
    lake.write("features/churn/run-1/manifest.json", b"{}")
    closed(seen, "features/churn/run-1/manifest.json")
    assert {path for _, path in told(seen)} == {"features/churn/run-1/manifest.json"}


@pytest.mark.parametrize(
    ("path", "asked_for"),
    [
        ("landing/a.csv", True),
        ("manifest.json", True),
        ("predictions/a", False),
        ("predictions-of-others/a", True),
        ("features/p/r/manifest.json", True),
        ("features/p/table/manifest.json", True),
        ("features/p/r/train/manifest.json", False),
        ("features/p/by-input/abc.json", False),
    ],
)
def test_the_subscription_asks_for(path: str, asked_for: bool) -> None:
    assert wanted(path) is asked_for


def test_files_that_land_with_one_whose_name_is_no_utf8_are_told_all_the_same(root: Path, seen: Seen) -> None:
    (root / "landing").mkdir(parents=True)
    (root / "landing" / "before.csv").write_text("x")
    closed(seen, "landing/before.csv")
    (root / "landing" / os.fsdecode(b"bad\xff.csv")).write_bytes(b"id")
    (root / "landing" / "good.csv").write_text("x")
    closed(seen, "landing/good.csv")
    (root / "landing" / "after.csv").write_text("x")
    closed(seen, "landing/after.csv")
    assert [path for _, path in told(seen, "FlushWithClose")].count("landing/before.csv") == 1
