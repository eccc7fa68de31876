"""A batch that is added to the features there are: the same result as from all that landed, for less."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from shared.adapters.local import base_features, pieces
from shared.adapters.local.features_job import prepare
from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock
from shared.domain.landing import LandedFile
from shared.domain.pipelines import Features, Landing, Pipeline
from shared.errors import Rejected
from shared.features.landed_rows import PROFILE_ROWS
from shared.ports.feature_engine import FeaturesJob, Manifest

SQL = "SELECT id, amount * 2 AS twice, colour, label FROM landed WHERE amount IS NULL OR amount >= 0"
Row = tuple[Any, ...]


class Shop:
    """A pipeline whose batches are prepared one after the other, each on the features of those accepted before."""

    def __init__(self, home: Path, *, sql: str = SQL, **landing: Any) -> None:
        self.lake = FolderLake(home / "lake", "landfall", "lake")
        self.home, self.sql = home, sql
        self.pipeline = Pipeline(
            name="shop",
            landing=Landing(**{"path": "landing/shop", **landing}),
            features=Features(key="id", label="label"),
        )
        self.accepted: list[LandedFile] = []
        self.base = ""
        self._jobs = 0

    def land(self, name: str, header: Sequence[str], rows: Sequence[Row]) -> LandedFile:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        info = self.lake.write(f"landing/shop/{name}", text.getvalue().encode())
        return LandedFile(path=info.path, etag=info.etag, size=info.size, at=datetime(2026, 1, 1, tzinfo=UTC))

    def job(self, files: Sequence[LandedFile], *, base: str | None = None) -> FeaturesJob:
        self._jobs += 1
        run = f"run{self._jobs}"
        return FeaturesJob(
            name=run,
            pipeline=self.pipeline,
            run=run,
            sql=self.sql,
            files=tuple(files),
            earlier=tuple(self.accepted),
            fingerprint=f"of-{run}",
            output=f"features/shop/{run}",
            base=self.base if base is None else base,
        )

    def prepare(self, job: FeaturesJob) -> Manifest:
        """One more batch; it is a base of the next when it is ready and all of it was there."""
        made = prepare(job, self.lake, self.home / "work", SystemClock())
        if made.status == "ready":
            self.accepted += job.files
            known = f"features/shop/by-input/{job.fingerprint}.json"
            self.base = known if self.lake.stat(known) else ""
        return made

    def from_scratch(self, job: FeaturesJob) -> Manifest:
        """The same input without a base, in places of its own."""
        again = replace(job, base="", run=f"{job.run}-again", output=f"{job.output}-again", fingerprint="again")
        return prepare(again, self.lake, self.home / "work", SystemClock())

    def rows(self, manifest: Manifest, side: str) -> list[dict[str, Any]]:
        found = pq.read_table(self.lake.uri(getattr(manifest, side)), partitioning=None).to_pylist()
        return sorted(found, key=lambda row: str(row["id"]))

    def result(self, manifest: Manifest) -> Any:
        """All that a run says and leaves, but names and times."""
        said = (manifest.status, manifest.faults, manifest.landed_rows, manifest.landed_columns, manifest.row_wise)
        if manifest.status != "ready":
            return said
        table = DeltaTable(self.lake.uri(manifest.table), version=manifest.table_version).to_pyarrow_table()
        (labels,) = [i for i in self.lake.list("predictions/shop/labels/") if i.path.endswith(f"-{manifest.run}.jsonl")]
        return (
            *said,
            list(manifest.columns.items()),
            (manifest.train_rows, manifest.test_rows),
            self.rows(manifest, "train"),
            self.rows(manifest, "test"),
            sorted(pa.table(table).to_pylist(), key=lambda row: str(row["id"])),
            json.loads(self.lake.read(manifest.profile)),
            sorted(self.lake.read(labels.path).splitlines()),
        )


HEADER = ("id", "amount", "colour", "label")
FIRST = [(f"k{i}", i % 9, "red" if i % 2 else "blue", "yes" if i % 3 else "no") for i in range(60)]

amounts = st.one_of(st.integers(-2, 9), st.sampled_from(["", 1.5, "many", -0.5]))
rows = st.tuples(
    st.integers(0, 90).map("k{}".format), amounts, st.sampled_from(["red", "green", ""]), st.sampled_from(["yes", "no"])
)
batches = st.fixed_dictionaries(
    {
        "rows": st.lists(rows, min_size=1, max_size=12),
        "again": st.booleans(),
        "column": st.sampled_from(["", "", "", "", "shop", "id"]),
    }
)


@pytest.fixture(autouse=True)
def small_pieces() -> Iterator[None]:
    """Sizes at which a few rows are split and merged."""
    with patch.object(pieces, "SIZES", (4, 16, 32)), patch.object(pieces, "FEW", 3):
        yield


@settings(max_examples=25, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
@given(landing=st.lists(batches, min_size=1, max_size=5), keep=st.sampled_from(["latest", "latest", "all"]))
@example(landing=[{"rows": [("k1", "", "", "no")], "again": False, "column": ""}] * 4, keep="latest")
@example(
    landing=[{"rows": [(f"k{i}", 1, "red", "no") for i in range(70)], "again": False, "column": ""}], keep="latest"
)
@example(
    landing=[{"rows": [(f"k{i}", -1, "red", "no") for i in range(58)], "again": False, "column": ""}], keep="latest"
)
def test_batches_one_after_the_other_give_what_all_at_once_gives(landing: list[dict[str, Any]], keep: str) -> None:
    with tempfile.TemporaryDirectory() as home, patch("shared.adapters.local.base_features.PROFILE_ROWS", 20):
        shop = Shop(Path(home), keep=keep)
        shop.prepare(shop.job([shop.land("0.csv", HEADER, FIRST)]))
        for number, batch in enumerate(landing, 1):
            name = f"{0 if batch['again'] else number}.csv"
            more = batch["column"]
            header = tuple(h for h in HEADER if h != more) if more in HEADER else (*HEADER, more) if more else HEADER
            cells = [row[1:] if more == "id" else (*row, number) if more else row for row in batch["rows"]]
            job = shop.job([shop.land(name, header, cells)])
            assert outcome(shop, shop.prepare, job) == outcome(shop, shop.from_scratch, job)


def outcome(shop: Shop, way: Callable[[FeaturesJob], Manifest], job: FeaturesJob) -> Any:
    """What a way gives, or what it says of the pipeline."""
    try:
        return shop.result(way(job))
    except Rejected as error:
        return str(error)


def added(manifest: Manifest) -> bool:
    return manifest.prepared.startswith("added")


def batch(shop: Shop, name: str, start: int, count: int = 10) -> LandedFile:
    rows = [(f"k{i:03}", i % 9, "red", "yes" if i % 3 else "no") for i in range(start, start + count)]
    return shop.land(name, HEADER, rows)


def test_a_batch_is_added_without_a_look_at_what_landed_before(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first = batch(shop, "a.csv", 0, 100)
    shop.prepare(shop.job([first]))
    place = Path(shop.lake.uri(first.path))
    place.chmod(0)
    try:
        with patch.object(FolderLake, "uri", _refusing(FolderLake.uri, first.path)):
            made = shop.prepare(shop.job([batch(shop, "b.csv", 200)]))
    finally:
        place.chmod(0o644)
    assert made.prepared == "added 10 landed rows to features/shop/run1"
    assert made.train_rows + made.test_rows == 110


def _refusing(uri: Any, path: str) -> Any:
    def place(self: FolderLake, asked: str) -> str:
        assert asked != path, "an earlier file was asked for"
        return str(uri(self, asked))

    return place


def test_what_no_batch_changed_is_stored_once_and_the_table_s_log_grows_with_the_batch(tmp_path: Path) -> None:
    with patch.object(pieces, "SIZES", (4, 1000)):
        shop = Shop(tmp_path)
        first = shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
        second = shop.prepare(shop.job([batch(shop, "b.csv", 200, 40)]))
    (old,) = Path(shop.lake.uri(first.train)).iterdir()
    assert (Path(shop.lake.uri(second.train)) / old.name).samefile(old)
    log = Path(shop.lake.uri(second.table)) / "_delta_log" / f"{second.table_version:020}.json"
    actions = [next(iter(json.loads(line))) for line in log.read_text().splitlines()]
    assert (actions.count("add"), actions.count("remove")) == (2, 0)


def test_what_is_stored_for_the_next_batch_is_that_of_the_last_run_alone(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for number in range(3):
        shop.prepare(shop.job([batch(shop, f"{number}.csv", number * 50, 50)]))
    kept = {
        i.path.split("/")[3] for i in shop.lake.list("features/shop/by-input/") if i.path.endswith("sample.parquet")
    }
    assert kept == {"of-run3"}


def test_many_small_batches_leave_few_files(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 60)]))
    for number in range(12):
        made = shop.prepare(shop.job([batch(shop, f"{number}.csv", 100 + 5 * number, 5)]))
        assert added(made)
    assert made.train_rows + made.test_rows == 120
    assert len(list(Path(shop.lake.uri(made.train)).iterdir())) <= 8


@pytest.mark.parametrize("rows", [[1] * 100, [3, 3, 3, 50, 0, 1, 7], [40, 2, 40, 2, 2, 40]])
def test_merging_keeps_every_piece_that_has_rows_and_none_twice(rows: list[int]) -> None:
    groups = pieces.grouped(rows)
    assert sorted(place for group in groups for place in group) == [n for n, count in enumerate(rows) if count]
    assert len([1 for group in groups if sum(rows[n] for n in group) < pieces.SIZES[0]]) < pieces.FEW


@pytest.mark.parametrize(
    ("sql", "landing", "reason"),
    [
        (
            "SELECT id, count(*) AS n, max(label) AS label FROM landed GROUP BY id",
            {"keep": "all"},
            "aggregates",
        ),
        ("SELECT upper(id) AS id, amount, label FROM landed", {}, "makes the key id itself"),
        ("SELECT id, c, label FROM landed AS l(id, a, c, label)", {}, "renames columns by their places"),
    ],
)
def test_where_a_batch_cannot_be_added_the_manifest_says_why(
    tmp_path: Path, sql: str, landing: dict[str, Any], reason: str
) -> None:
    shop = Shop(tmp_path, sql=sql, **landing)
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    made = shop.prepare(shop.job([batch(shop, "b.csv", 200)]))
    assert made.prepared.startswith("prepared all anew: ")
    assert reason in made.prepared


def test_a_file_that_landed_before_and_is_gone_leaves_the_features(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first = batch(shop, "a.csv", 0, 50)
    shop.prepare(shop.job([first, batch(shop, "b.csv", 100, 50)]))
    shop.lake.delete(first.path)
    made = shop.prepare(shop.job([batch(shop, "c.csv", 200, 10)]))
    assert made.prepared == "prepared all anew: landing/shop/a.csv, which landed before, is gone"
    assert made.train_rows + made.test_rows == 60


def test_features_that_were_cleared_away_are_prepared_anew(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first = shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    next(Path(shop.lake.uri(first.train)).iterdir()).unlink()
    made = shop.prepare(shop.job([batch(shop, "b.csv", 200)]))
    assert "of features/shop/run1 is gone" in made.prepared
    assert made.train_rows + made.test_rows == 110


@pytest.mark.parametrize(
    ("name", "content"), [("sample.parquet", None), ("facts.json", b""), ("facts.json", b'{"layout": 1}')]
)
def test_features_of_which_something_is_damaged_are_prepared_anew(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    shop = Shop(tmp_path)
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    path = f"{shop.base.removesuffix('.json')}/{name}"
    shop.lake.delete(path)
    if content is not None:
        shop.lake.write(path, content)
    made = shop.prepare(shop.job([batch(shop, "b.csv", 200)]))
    assert made.prepared.startswith("prepared all anew: ")
    assert made.train_rows + made.test_rows == 110


def test_two_jobs_on_the_same_features_both_end_with_all_rows(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    one, other = (shop.job([batch(shop, f"{name}.csv", start)]) for name, start in (("b", 200), ("c", 300)))
    find = base_features.find

    def overtaken(job: FeaturesJob, lake: FolderLake) -> base_features.Base:
        found = find(job, lake)
        if job is one:
            prepare(other, shop.lake, shop.home / "work", SystemClock())
        return found

    with patch.object(base_features, "find", overtaken):
        made = prepare(one, shop.lake, shop.home / "work", SystemClock())
    assert "sample.parquet of features/shop/run1 is gone" in made.prepared
    assert shop.result(made) == shop.result(shop.from_scratch(one))


def test_a_feature_may_have_any_name(tmp_path: Path) -> None:
    shop = Shop(tmp_path, sql="SELECT id, colour AS FileName, label FROM landed")
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    job = shop.job([batch(shop, "b.csv", 95)])
    made = shop.prepare(job)
    assert added(made)
    assert shop.result(made) == shop.result(shop.from_scratch(job))


def test_a_run_that_died_after_its_commit_pins_what_it_reads_now(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first = batch(shop, "a.csv", 0, 50)
    job = shop.job([first, batch(shop, "b.csv", 100, 50)])
    shop.prepare(job)
    job = shop.job([batch(shop, "c.csv", 200, 10)])
    write = FolderLake.write

    def die(self: FolderLake, path: str, data: bytes, *, overwrite: bool = True) -> Any:
        if path.endswith("/profile.json"):
            raise SystemExit("died")
        return write(self, path, data, overwrite=overwrite)

    with patch.object(FolderLake, "write", die), pytest.raises(SystemExit):
        shop.prepare(job)
    shop.lake.delete(first.path)
    made = shop.prepare(job)
    table = DeltaTable(shop.lake.uri(made.table), version=made.table_version).to_pyarrow_table()
    assert made.train_rows + made.test_rows == 60 == table.num_rows


def test_features_sql_has_to_give_a_feature(tmp_path: Path) -> None:
    shop = Shop(tmp_path, sql="SELECT id, label FROM landed")
    with pytest.raises(Rejected, match="gives nothing but id and label"):
        shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))


@pytest.mark.parametrize("dying", ["/profile.json", "facts.json", "/by-input/of-run2.json", "run2/manifest.json"])
def test_a_batch_that_died_on_its_way_is_added_once(tmp_path: Path, dying: str) -> None:
    shop = Shop(tmp_path)
    shop.prepare(shop.job([batch(shop, "a.csv", 0, 100)]))
    job = shop.job([batch(shop, "b.csv", 95, 20)])
    write = FolderLake.write

    def die(self: FolderLake, path: str, data: bytes, *, overwrite: bool = True) -> Any:
        if path.endswith(dying):
            raise SystemExit("died")
        return write(self, path, data, overwrite=overwrite)

    with patch.object(FolderLake, "write", die), pytest.raises(SystemExit):
        shop.prepare(job)
    made = shop.prepare(job)
    assert (added(made), made.table_version) == (True, 1)
    assert shop.result(made) == shop.result(shop.from_scratch(job))


def test_the_profile_is_the_same_while_the_share_of_rows_in_it_shrinks(tmp_path: Path) -> None:
    assert PROFILE_ROWS == 200_000
    with patch("shared.adapters.local.base_features.PROFILE_ROWS", 30):
        shop = Shop(tmp_path)
        shop.prepare(shop.job([batch(shop, "0.csv", 0, 60)]))
        for number in range(1, 5):
            job = shop.job([batch(shop, f"{number}.csv", number * 50, 60)])
            made = shop.prepare(job)
            assert added(made)
            profile = json.loads(shop.lake.read(made.profile))
            assert 15 <= profile["rows"] <= 45
            assert profile == json.loads(shop.lake.read(shop.from_scratch(job).profile))
