"""Which files count, and when a batch is complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.landing import LandedFile, closes, ignored, wait
from shared.domain.pipelines import Complete

CLOSED_BY = [
    "PutBlob",
    "PutBlockList",
    "FlushWithClose",
    "SftpCommit",
    "RenameFile",
    "RenameDirectory",
    "BlobRenamed",
    "DirectoryRenamed",
]


@pytest.mark.parametrize("api", [*CLOSED_BY, "CopyBlob", "Found"])
def test_written_and_renamed_files_count(api: str) -> None:
    assert ignored("landing/churn/a.csv", api, 10) == ""


@pytest.mark.parametrize("api", ["CreateFile", "SftpCreate"])
def test_a_file_that_was_only_opened_does_not_count(api: str) -> None:
    assert "only opens the file" in ignored("landing/churn/a.csv", api, 10)


@pytest.mark.parametrize("api", ["", "DeleteFile", "SetBlobTier", "putblob", "AppendFile"])
def test_an_api_that_is_not_listed_does_not_count(api: str) -> None:
    assert "does not write a file" in ignored("landing/churn/a.csv", api, 10)


@pytest.mark.parametrize("api", CLOSED_BY)
def test_the_writer_has_closed_the_file(api: str) -> None:
    assert closes(api)


@pytest.mark.parametrize("api", ["CopyBlob", "Found", "CreateFile", "SftpCreate", ""])
def test_nobody_was_seen_to_close_the_file(api: str) -> None:
    assert not closes(api)


def test_an_empty_file_does_not_count() -> None:
    assert "0 bytes" in ignored("landing/churn/a.csv", "PutBlob", 0)


@pytest.mark.parametrize(
    ("api", "size"), [("SftpCommit", 0), ("RenameFile", None), ("PutBlob", None), ("SftpCommit", None)]
)
def test_a_size_that_the_event_does_not_know_must_be_asked(api: str, size: int | None) -> None:
    assert ignored("landing/churn/a.csv", api, size) == ""


@pytest.mark.parametrize(
    "path",
    [
        "landing/churn/_temporary/0/part-0.parquet",
        "landing/churn/_temporary/0/task/_attempt/part-0.parquet",
        "landing/churn/_delta_log/00000000000000000000.json",
        "landing/churn/_delta_log/00000000000000000010.checkpoint.parquet",
        "landing/churn/.staging/a.csv",
        "landing/churn/_SUCCESS",
        "landing/churn/_started_12",
        "landing/churn/.a.csv",
        "landing/churn/.a.csv.crc",
        "landing/churn/a.csv.crc",
        "landing/churn/a.tmp",
        "landing/churn/a.CSV.TMP",
        "landing/churn/a.csv.partial",
        "landing/churn/a.csv.filepart",
        "landing/churn/a.csv._COPYING_",
        "landing/churn/a.csv~",
    ],
)
def test_temporary_files_and_markers_do_not_count(path: str) -> None:
    assert ignored(path, "PutBlob", 10)


@pytest.mark.parametrize(
    "path",
    [
        "a.csv",
        "landing/churn/_day=2024-05-01/part-0.parquet",
        "landing/churn/day=2024-05-01/a.csv",
        "landing/churn/part-00000-tid-1.c000.snappy.parquet",
        "landing/churn/tmp.csv",
        "landing/tmp/a.csv",
        "landing/churn/a_.csv",
        "landing/churn/Kunden März.csv",
    ],
)
def test_ordinary_names_count(path: str) -> None:
    assert ignored(path, "PutBlob", 10) == ""


def test_a_marker_that_is_waited_for_counts_whatever_its_name_and_size() -> None:
    assert ignored("landing/churn/_SUCCESS", "FlushWithClose", 0, marker=True) == ""
    assert ignored("landing/churn/_SUCCESS", "CreateFile", 0, marker=True)


@given(st.text(max_size=30), st.text(max_size=12), st.one_of(st.none(), st.integers()))
def test_any_event_gets_an_answer(path: str, api: str, size: int | None) -> None:
    assert isinstance(ignored(path, api, size), str)


# batches

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
QUIET = Complete(quiet=timedelta(seconds=30), max_wait=timedelta(minutes=10))
MARKER = Complete(marker="_SUCCESS", max_wait=timedelta(minutes=10))
EACH = Complete(each_file=True)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def file(seconds: float, *, closed: bool = True, name: str = "a.csv") -> LandedFile:
    return LandedFile(path=f"landing/x/{name}", etag="1", size=10, at=at(seconds), closed=closed)


@pytest.mark.parametrize(
    ("files", "complete", "now", "given", "seconds", "words"),
    [
        # quiet
        ([file(0)], QUIET, 10, {}, 20, "landing/x/a.csv came less than 30 s ago"),
        ([file(0)], QUIET, 30, {}, None, "no new file for 30 s, 1 file"),
        ([file(0), file(25)], QUIET, 30, {}, 25, "came less than 30 s ago"),
        ([file(25), file(0)], QUIET, 60, {}, None, "no new file for 30 s, 2 files"),
        ([file(595)], QUIET, 599.5, {}, 1, "came less than"),
        ([file(595)], QUIET, 600, {}, None, "open for 10 min, the longest wait, with 1 file"),
        ([file(590)], QUIET, 595, {}, 5, "came less than"),
        ([], QUIET, 5, {}, 30, "no file has joined"),
        ([], QUIET, 600, {}, None, "longest wait, with 0 files"),
        # a clock that is ahead
        ([file(3600)], QUIET, 0, {}, 30, "came less than"),
        # not seen to be closed
        ([file(0, closed=False)], QUIET, 10, {}, 20, "nobody was seen to close landing/x/a.csv"),
        ([file(0, closed=False)], QUIET, 30, {}, None, "no new file"),
        ([file(0, closed=False), file(25)], QUIET, 40, {}, 15, "came less than"),
        # a marker
        ([file(0)], MARKER, 300, {}, 300, "the marker _SUCCESS is not there yet, 1 file so far"),
        ([file(0)], MARKER, 1, {"marked": True}, None, "the marker _SUCCESS is there, 1 file"),
        ([], MARKER, 1, {"marked": True}, None, "the marker _SUCCESS is there, 0 files"),
        ([], MARKER, 1, {}, 599, "not there yet"),
        ([file(0, closed=False)], MARKER, 1, {"marked": True}, 29, "nobody was seen to close"),
        ([file(0)], MARKER, 600, {}, None, "longest wait"),
        # each file
        ([file(0)], EACH, 0, {}, None, "each file is a batch"),
        ([file(0, closed=False)], EACH, 1, {}, 29, "nobody was seen to close"),
        ([file(0)], EACH, 5, {"carried": True}, 25, "came less than"),
        ([file(0)], EACH, 30, {"carried": True}, None, "no new file"),
    ],
)
def test_a_batch_is_complete_or_says_what_it_waits_for(
    files: list[LandedFile], complete: Complete, now: float, given: dict[str, bool], seconds: float | None, words: str
) -> None:
    again, why = wait(files, complete, opened_at=NOON, now=at(now), **given)
    assert words in why
    assert again == (None if seconds is None else timedelta(seconds=seconds))


FILES = st.lists(
    st.builds(file, st.floats(-100, 10_000), closed=st.booleans(), name=st.sampled_from(["a.csv", "b.csv"])), max_size=4
)
COMPLETES = st.builds(
    Complete,
    quiet=st.timedeltas(timedelta(0), timedelta(hours=1)),
    max_wait=st.timedeltas(timedelta(seconds=1), timedelta(hours=2)),
    marker=st.sampled_from([None, "_SUCCESS"]),
    each_file=st.booleans(),
)


@given(FILES, COMPLETES, st.booleans(), st.booleans())
def test_looking_again_when_told_always_completes_the_batch_within_max_wait(
    files: list[LandedFile], complete: Complete, marked: bool, carried: bool
) -> None:
    now, looks = NOON, 0
    while True:
        again, why = wait(files, complete, opened_at=NOON, now=now, marked=marked, carried=carried)
        assert why
        if again is None:
            break
        assert again >= timedelta(seconds=1)
        now, looks = now + again, looks + 1
        assert looks < 10_000
    assert now - NOON <= complete.max_wait + timedelta(seconds=1)
