"""The Lake port."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters.local.lake import FolderLake
from shared.adapters.local.whole_file import LEFTOVER_SECONDS
from shared.errors import AlreadyExists, Missing, Rejected
from shared.ports.lake import Lake
from tests.contracts.backends import Backend, LocalBackend
from tests.contracts.races import How, attempt, kill_in_the_middle, race

AWKWARD = [
    "landing/übung/файл 数据 🛬.csv",
    'landing/it\'s "quoted".csv',
    "landing/50% #1?.csv",
    "landing/a=b&c/{x}[y]*.csv",
    "landing/ leading and trailing ",
    "landing/.hidden/..twodots",
    "landing/%2e%2e/x.csv",
    "landing/" + "n" * 255,
]
TRICKS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside.csv",
    "landing/../../outside.csv",
    "landing/..",
    "landing/./a.csv",
    ".",
    "landing//a.csv",
    "landing/",
    "landing\\..\\a.csv",
    "landing/a\x00.csv",
    "landing/a\n.csv",
    "landing/a\x7f.csv",
    "landing/a\x85.csv",
    "landing/\ud800.csv",
    "landing/" + "n" * 256,
    "d/" * 511 + "abc",
]


@pytest.fixture
def lake(backend: Backend) -> Lake:
    return backend.lake()


def test_the_lake_says_its_account_and_container(lake: Lake, backend: Backend) -> None:
    assert (lake.account, lake.container) == ("landfall", backend.container)


def test_a_file_of_this_machine_goes_into_the_lake_and_back_as_it_is(lake: Lake, tmp_path: Path) -> None:
    source, copy = tmp_path / "source.bin", tmp_path / "copy.bin"
    for size in (0, 10, 40 * 1024 * 1024):
        source.write_bytes(os.urandom(min(size, 1024)) * (size // 1024) if size > 1024 else b"x" * size)
        written = lake.upload("landing/file.bin", source)
        assert written == lake.stat("landing/file.bin")
        lake.download("landing/file.bin", copy)
        assert copy.read_bytes() == source.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["copy.bin", "source.bin"]


def test_a_download_of_what_is_no_file_is_missing_and_leaves_what_was_there(lake: Lake, tmp_path: Path) -> None:
    copy = tmp_path / "copy.bin"
    copy.write_bytes(b"before")
    lake.write("folder/file", b"x")
    for path in ("folder", "nothing"):
        with pytest.raises(Missing):
            lake.download(path, copy)
    assert copy.read_bytes() == b"before"


def test_a_file_is_read_as_it_was_written(lake: Lake) -> None:
    data = bytes(range(256)) * 1000
    lake.write("landing/churn/a.bin", data)
    assert lake.read("landing/churn/a.bin") == data


def test_a_file_may_be_empty(lake: Lake) -> None:
    assert lake.write("landing/empty", b"").size == 0
    assert lake.read("landing/empty") == b""


def test_stat_tells_what_write_told(lake: Lake) -> None:
    written = lake.write("landing/a.csv", b"1,2\n")
    assert lake.stat("landing/a.csv") == written
    assert (written.path, written.size) == ("landing/a.csv", 4)
    assert '"' not in written.etag and written.etag
    assert abs(written.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert written.modified.tzinfo is not None


def test_what_is_not_there_has_no_state_and_cannot_be_read(lake: Lake) -> None:
    lake.write("landing/a.csv", b"1")
    for path in ("landing/b.csv", "landing/a.csv/below", "nothing/at/all"):
        assert lake.stat(path) is None
        with pytest.raises(Missing, match=path):
            lake.read(path)


def test_a_folder_is_no_file(lake: Lake) -> None:
    lake.write("landing/churn/a.csv", b"1")
    assert lake.stat("landing/churn") is None
    with pytest.raises(Missing):
        lake.read("landing/churn")
    lake.delete("landing/churn")
    assert lake.read("landing/churn/a.csv") == b"1"


@pytest.mark.gap("azure", "never: a hierarchical namespace refuses it itself, and Azurite has none")
def test_a_file_is_not_written_over_a_folder_or_below_a_file(lake: Lake) -> None:
    lake.write("landing/churn/a.csv", b"1")
    for overwrite in (True, False):
        with pytest.raises(Rejected, match="folder"):
            lake.write("landing/churn", b"2", overwrite=overwrite)
        for path in ("landing/churn/a.csv/b.csv", "landing/churn/a.csv/b/c.csv"):
            with pytest.raises(Rejected, match=path):
                lake.write(path, b"2", overwrite=overwrite)
    assert [file.path for file in lake.list("")] == ["landing/churn/a.csv"]


def test_writing_replaces_the_whole_file(lake: Lake) -> None:
    lake.write("a", b"long long long")
    lake.write("a", b"short")
    assert lake.read("a") == b"short"


def test_without_overwrite_the_first_file_stays(lake: Lake) -> None:
    first = lake.write("a/b", b"first", overwrite=False)
    with pytest.raises(AlreadyExists, match="a/b"):
        lake.write("a/b", b"second", overwrite=False)
    assert lake.read("a/b") == b"first"
    assert lake.stat("a/b") == first


def test_etags_of_one_path_are_never_used_twice(lake: Lake) -> None:
    etags = []
    for number in range(300):
        if number % 7 == 0:
            lake.delete("a")
        etags.append(lake.write("a", b"%03d" % number).etag)
    assert len(set(etags)) == 300


def test_an_etag_stays_while_the_file_does(lake: Lake, backend: Backend) -> None:
    etag = lake.write("a", b"1").etag
    lake.read("a")
    lake.write("b", b"1")
    assert {file.path: file.etag for file in backend.lake().list("")}["a"] == etag


def test_a_deleted_file_is_gone_and_deleting_again_does_nothing(lake: Lake) -> None:
    lake.write("landing/a", b"1")
    for _ in range(2):
        lake.delete("landing/a")
        assert lake.stat("landing/a") is None
    assert list(lake.list("")) == []
    lake.delete("landing/a/below/it")


def test_nothing_is_listed_where_nothing_is(lake: Lake) -> None:
    assert list(lake.list("")) == []
    lake.write("landing/a", b"1")
    assert list(lake.list("features/")) == []
    assert list(lake.list("landing/a/")) == []


def test_a_list_is_in_path_order_also_where_names_continue_a_folders_name(lake: Lake) -> None:
    paths = ["a!", "a-b", "a.csv", "a/b", "a/b-", "a/b.csv", "a/b1/c", "a0", "a/é", "a/z", "Z", "🛬"]
    for path in paths:
        lake.write(path, b"1")
    assert [file.path for file in lake.list("")] == sorted(paths)


def test_a_prefix_may_end_within_a_name_or_with_a_slash(lake: Lake) -> None:
    for path in ("landing/churn/a", "landing/churn-2/b", "landing/churn.csv", "landing/.hidden", "landing"[:3]):
        lake.write(path, b"1")
    assert [file.path for file in lake.list("landing/churn/")] == ["landing/churn/a"]
    assert [file.path for file in lake.list("landing/churn")] == [
        "landing/churn-2/b",
        "landing/churn.csv",
        "landing/churn/a",
    ]
    assert [file.path for file in lake.list("landing/.")] == ["landing/.hidden"]
    assert next(lake.list("la")).path == "lan"


def test_a_list_tells_of_each_file_what_stat_tells(lake: Lake) -> None:
    for path in ("a", "b/c"):
        lake.write(path, path.encode())
    assert list(lake.list("")) == [lake.stat("a"), lake.stat("b/c")]


def test_pages_have_every_file_once_and_the_next_begins_where_the_last_one_ended_for_any_process(
    lake: Lake, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.local.lake.PAGE", 3)
    monkeypatch.setattr("shared.adapters.azure.lake.PAGE", 3)
    paths = ["a/!", "a/b!", "a/b-", "a/b.csv", "a/b/c", "a/b/d/e", "a/b0", "a/é", "a/🛬", "b", "a.csv"]
    for path in paths:
        lake.write(path, b"1")
    found, after = lake.page("a/")
    assert 0 < len(found) <= 3 and after
    rounds = 1
    while after:
        files, after = backend.lake().page("a/", after)
        found += files
        rounds += 1
        assert rounds < 20
    assert sorted(file.path for file in found) == sorted(path for path in paths if path.startswith("a/"))
    assert sorted(found, key=lambda file: file.path) == list(lake.list("a/"))
    assert lake.page("nothing/") == ([], "")


def test_a_page_whose_beginning_is_gone_is_followed_by_the_rest(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.adapters.local.lake.PAGE", 2)
    monkeypatch.setattr("shared.adapters.azure.lake.PAGE", 2)
    for name in "abcdef":
        lake.write(f"x/{name}", b"1")
    _, after = lake.page("x/")
    for name in "abc":
        lake.delete(f"x/{name}")
    lake.write("x/c/new", b"1")
    assert [file.path for file in lake.page("x/", after)[0]][:1] == ["x/c/new"]


def test_a_list_may_be_left_and_files_may_come_and_go_meanwhile(lake: Lake) -> None:
    for number in range(5):
        lake.write(f"a/{number}", b"1")
    files = lake.list("a/")
    assert next(files).path == "a/0"
    lake.delete("a/3")
    assert [file.path for file in files if file.path != "a/3"] == ["a/1", "a/2", "a/4"]


@pytest.mark.parametrize("path", AWKWARD)
def test_awkward_paths_name_files_like_others(lake: Lake, path: str) -> None:
    written = lake.write(path, b"1")
    assert lake.stat(path) == written
    assert lake.read(path) == b"1"
    assert list(lake.list("")) == [written]
    assert list(lake.list(path)) == [written]
    lake.delete(path)
    assert lake.stat(path) is None


@pytest.mark.parametrize("path", TRICKS, ids=ascii)
def test_path_tricks_are_rejected_by_every_method(lake: Lake, path: str) -> None:
    methods: list[Any] = [lake.stat, lake.read, lake.delete, lake.uri, lambda p: lake.write(p, b"1")]
    for method in methods:
        with pytest.raises(Rejected, match="path"):
            method(path)


@pytest.mark.parametrize("prefix", ["/", "/etc", "..", "../", "../out", "a/..", "a/../b", "a//", "a\\", "a\x00", "./a"])
def test_prefix_tricks_are_rejected(lake: Lake, prefix: str) -> None:
    with pytest.raises(Rejected):
        list(lake.list(prefix))


def test_engines_find_files_and_folders_at_their_uri(local: LocalBackend) -> None:
    lake = local.lake()
    lake.write("features/churn/part.parquet", b"1")
    assert Path(lake.uri("features/churn/part.parquet")).read_bytes() == b"1"
    assert Path(lake.uri("features/churn")).is_dir()
    assert Path(lake.uri("not/there/yet")).is_absolute()


def write_new(backend: Backend, index: int) -> bool:
    return attempt(AlreadyExists, backend.lake().write, "a/b/c", b"%d" % index * 100_000, overwrite=False)


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_of_writers_that_race_for_a_new_file_exactly_one_wins(backend: Backend, how: How) -> None:
    won = race(how, 4, write_new, backend)
    assert won.count(True) == 1
    assert backend.lake().read("a/b/c") == b"%d" % won.index(True) * 100_000


def overwrite_or_read(backend: Backend, index: int) -> bool:
    lake = backend.lake()
    whole = True
    for _ in range(30):
        if index % 2:
            lake.write("a", b"%d" % index * 300_000)
        else:
            seen = lake.read("a")
            whole = whole and len(seen) == 300_000 and len(set(seen)) == 1
    return whole


@pytest.mark.parametrize("how", ["threads", "processes"])
def test_readers_see_the_old_or_the_new_file_and_never_a_part(backend: Backend, how: How) -> None:
    backend.lake().write("a", b"0" * 300_000)
    assert race(how, 4, overwrite_or_read, backend) == [True] * 4


def write_for_ever(backend: Backend, acknowledge: Any) -> None:
    for number in range(1_000_000):
        backend.lake().write("a", b"%07d" % number * 40_000)
        acknowledge(number)


def test_a_writer_killed_in_the_middle_leaves_a_whole_file(backend: Backend) -> None:
    latest = kill_in_the_middle(write_for_ever, backend, after=20)[-1]
    content = backend.lake().read("a")
    # The write after the last acknowledged one may have been done.
    assert content in (b"%07d" % latest * 40_000, b"%07d" % (latest + 1) * 40_000)
    assert [file.path for file in backend.lake().list("")] == ["a"]


NAMES = st.text(st.sampled_from("ab.-0é/"), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(paths=st.lists(NAMES, max_size=12), prefix=st.text(st.sampled_from("ab.-0é/"), max_size=4))
def test_a_list_is_the_sorted_paths_that_begin_with_the_prefix(paths: list[str], prefix: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        lake = LocalBackend(Path(home)).lake()
        written = {path for path in paths if attempt(Rejected, lake.write, path, b"1")}
        try:
            listed = [file.path for file in lake.list(prefix)]
        except Rejected:
            assert not any(path.startswith(prefix) for path in written)
        else:
            assert listed == sorted(path for path in written if path.startswith(prefix))


@settings(max_examples=200, deadline=None)
@given(path=st.text(st.one_of(st.sampled_from("./\\a~%\x00"), st.characters()), max_size=12))
def test_whatever_the_path_nothing_is_written_outside_of_the_lake(path: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        lake = LocalBackend(Path(home)).lake()
        accepted = attempt(Rejected, lake.write, path, b"1")
        files = [file for file in Path(home).rglob("*") if file.is_file()]
        assert all(file.is_relative_to(Path(home) / "lake") for file in files)
        assert [file.path for file in lake.list("")] == ([path] if accepted else [])


# What follows is about a folder on a laptop.


def test_etags_do_not_depend_on_the_coarse_clock_of_a_file_system(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = local.lake()
    nanoseconds = iter(range(1_800_000_000_000_000_001, 1_800_000_000_000_000_009))
    monkeypatch.setattr(time, "time_ns", lambda: next(nanoseconds))
    stamps = {lake.write("a", b"%d" % number).etag.split("-")[0] for number in range(8)}
    assert stamps == {f"{stamp:x}" for stamp in range(1_800_000_000_000_000_001, 1_800_000_000_000_000_009)}


def test_making_a_lake_touches_nothing(local: LocalBackend) -> None:
    lake = local.lake()
    assert lake.stat("a") is None
    lake.delete("a")
    assert list(local.home.iterdir()) == []


def test_the_lake_folder_never_holds_anything_but_the_files_themselves(local: LocalBackend) -> None:
    seen: set[str] = set()

    class Watched(FolderLake):
        def _place(self, path: str) -> Path:
            seen.update(str(found) for found in local.home.joinpath("lake").rglob("*"))
            return super()._place(path)

    lake = Watched(local.home / "lake", "landfall", "lake")
    for overwrite in (True, False):
        lake.write(f"a/{overwrite}", b"1", overwrite=overwrite)
    with pytest.raises(AlreadyExists):
        lake.write("a/False", b"1", overwrite=False)
    lake.stat("a/False")
    assert {Path(place).name for place in seen} == {"a", "True", "False"}
    assert list((local.home / "lake.partial").iterdir()) == []


def test_part_files_of_dead_writers_are_removed_and_those_of_live_ones_are_not(local: LocalBackend) -> None:
    staging = local.home / "lake.partial"
    staging.mkdir()
    for name, age in (("old", LEFTOVER_SECONDS + 60), ("new", 60)):
        (staging / name).write_bytes(b"part")
        then = datetime.now(UTC).timestamp() - age
        os.utime(staging / name, (then, then))
    local.lake().write("a", b"1")
    assert [part.name for part in staging.iterdir()] == ["new"]


def test_files_that_people_copy_move_and_change_are_seen(local: LocalBackend) -> None:
    lake, folder = local.lake(), local.home / "lake" / "landing"
    folder.mkdir(parents=True)
    source = local.home / "data.csv"
    source.write_bytes(b"1,2\n")
    shutil.copy(source, folder / "copied.csv")
    copied = lake.stat("landing/copied.csv")
    assert copied is not None
    assert copied.size == 4
    source.rename(folder / "moved.csv")
    assert [file.path for file in lake.list("landing/")] == ["landing/copied.csv", "landing/moved.csv"]
    with (folder / "copied.csv").open("ab") as file:
        file.write(b"3,4\n")
    grown = lake.stat("landing/copied.csv")
    assert grown is not None
    assert grown.etag != copied.etag
    assert lake.read("landing/copied.csv") == b"1,2\n3,4\n"


def test_symbolic_links_are_rejected_and_not_listed(local: LocalBackend) -> None:
    lake, root = local.lake(), local.home / "lake"
    outside = local.home / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("secret")
    lake.write("landing/a.csv", b"1")
    (root / "landing" / "file.csv").symlink_to(outside / "secret.csv")
    (root / "landing" / "folder").symlink_to(outside)
    (root / "landing" / "loop").symlink_to(root)
    (root / "landing" / "dangling").symlink_to(outside / "new.csv")
    for path in ("landing/file.csv", "landing/folder/secret.csv", "landing/loop/landing/a.csv", "landing/dangling"):
        methods: list[Any] = [lake.stat, lake.read, lake.delete, lake.uri, lambda p: lake.write(p, b"2")]
        for method in methods:
            with pytest.raises(Rejected, match="symbolic link"):
                method(path)
    with pytest.raises(Rejected, match="symbolic link"):
        list(lake.list("landing/folder/"))
    assert [file.path for file in lake.list("")] == ["landing/a.csv"]
    assert (outside / "secret.csv").read_text() == "secret"
    assert not (outside / "new.csv").exists()


def test_the_lake_itself_may_stand_behind_a_symbolic_link(local: LocalBackend) -> None:
    (local.home / "disk").mkdir()
    (local.home / "linked").symlink_to(local.home / "disk")
    lake = LocalBackend(local.home / "linked").lake()
    lake.write("a", b"1")
    assert (local.home / "disk" / "lake" / "a").read_bytes() == b"1"


def test_names_that_no_path_can_have_are_not_listed(local: LocalBackend) -> None:
    lake, root = local.lake(), local.home / "lake"
    lake.write("a", b"1")
    for name in (b"back\\slash", b"new\nline", b"not-utf-8-\xff"):
        try:
            Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"1")
        except OSError:
            assert name.endswith(b"\xff"), "only a file system that insists on UTF-8 may refuse one"
    assert [file.path for file in lake.list("")] == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_file_and_nobody_waits_for_it(local: LocalBackend) -> None:
    lake = local.lake()
    lake.write("a", b"1")
    os.mkfifo(local.home / "lake" / "pipe")
    assert lake.stat("pipe") is None
    with pytest.raises(Missing):
        lake.read("pipe")
    assert [file.path for file in lake.list("")] == ["a"]


def test_folders_that_cannot_hold_a_path_with_the_prefix_are_not_opened(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = local.lake()
    for path in ("landing/churn/2026/a", "landing/bank/2026/a", "features/churn/a"):
        lake.write(path, b"1")
    opened, scandir = [], os.scandir

    def noted(folder: Path) -> Any:
        opened.append(Path(folder).relative_to(local.home / "lake").as_posix())
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    assert [file.path for file in lake.list("landing/ch")] == ["landing/churn/2026/a"]
    assert opened == ["landing", "landing/churn", "landing/churn/2026"]
