"""What is stored comes back as it was, also through releases with other fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import ledger
from shared.domain.drift import Profile, Summary
from shared.domain.gate import Evaluation, Verdict
from shared.domain.landing import LandedFile
from shared.domain.ledger import Entry, Run, Step
from shared.domain.pipelines import Features, Landing, Pipeline
from shared.domain.records import from_record, to_record
from tests.domain.record_values import instances

ENTRIES = [
    cls for cls in vars(ledger).values() if isinstance(cls, type) and issubclass(cls, Entry) and cls is not Entry
]


@pytest.mark.parametrize(
    "cls", [*ENTRIES, Evaluation, Verdict, Profile, Summary, LandedFile], ids=lambda cls: cls.__name__
)
@given(data=st.data())
def test_a_record_comes_back_through_json_as_it_was(cls: type, data: st.DataObject) -> None:
    value = data.draw(instances(cls))
    assert from_record(cls, json.loads(json.dumps(to_record(value)))) == value


@pytest.mark.parametrize("cls", ENTRIES, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_an_entry_is_found_by_kind_partition_and_key_again(cls: type[Entry], data: st.DataObject) -> None:
    entry = data.draw(instances(cls))
    again = from_record(cls, to_record(entry))
    assert (again.KIND, again.partition, again.key) == (entry.KIND, entry.partition, entry.key)


def test_kinds_are_distinct() -> None:
    assert len({cls.KIND for cls in ENTRIES}) == len(ENTRIES)


def test_the_version_read_is_no_part_of_the_record() -> None:
    now = datetime(2024, 5, 1, tzinfo=UTC)
    run = Run(
        pipeline="p",
        id="r",
        cause="hand",
        stage="features",
        status="running",
        created_at=now,
        updated_at=now,
        etag="abc",
    )
    assert "etag" not in to_record(run)
    assert from_record(Run, to_record(run)) == run


@dataclass(frozen=True, kw_only=True)
class Older:
    name: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Newer:
    name: str
    steps: tuple[Step, ...] = ()
    wait: timedelta = timedelta(minutes=5)


def test_records_of_an_older_release_take_the_new_defaults() -> None:
    old = Older(name="a", steps=(Step("features", "running", datetime(2024, 5, 1, tzinfo=UTC)),))
    assert from_record(Newer, to_record(old)) == Newer(name="a", steps=old.steps)


def test_records_of_a_newer_release_lose_what_is_not_known() -> None:
    assert from_record(Older, to_record(Newer(name="a", wait=timedelta(hours=1)))) == Older(name="a")


def test_a_missing_field_without_default_is_an_error() -> None:
    with pytest.raises(TypeError, match="name"):
        from_record(Older, {})


def test_a_whole_pipeline_comes_back() -> None:
    pipeline = Pipeline(
        name="churn",
        landing=Landing(path="landing/churn", columns={"a": "int?"}),
        features=Features(key="a", label="b"),
    )
    assert from_record(Pipeline, json.loads(json.dumps(to_record(pipeline)))) == pipeline
