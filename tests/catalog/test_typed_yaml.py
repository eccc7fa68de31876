"""YAML read by the types of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.definitions.typed_yaml import Faults, duration, nearest, read


@dataclass(frozen=True, kw_only=True)
class Part:
    share: float = 0.5
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    part: Part = field(default_factory=Part)
    parts: tuple[Part, ...] = ()
    texts: tuple[str, ...] = ()
    types: dict[str, str] = field(default_factory=dict)
    count: int = 1
    on: bool = False
    wait: timedelta | None = timedelta(seconds=1)
    kind: Literal["csv", "parquet"] = "csv"

    def __post_init__(self) -> None:
        if self.count > 10:
            raise ValueError("count: must be at most 10, for example 3")


def value(text: str) -> Any:
    faults = Faults("f.yaml")
    whole = read(text, Whole, faults)
    assert faults.all() == []
    return whole


def wrong(text: str) -> list[str]:
    faults = Faults("f.yaml")
    read(text, Whole, faults)
    return [str(fault) for fault in faults.all()]


@pytest.fixture(params=["C scanner", "Python scanner"], autouse=True)
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python scanner":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML is built without libyaml here")


def test_text_is_taken_as_it_is_written() -> None:
    assert value("{name: no, texts: [yes, 1, 1.50, 2024-01-01, 0x1f, 12:30:00, null-ish]}") == Whole(
        name="no", texts=("yes", "1", "1.50", "2024-01-01", "0x1f", "12:30:00", "null-ish")
    )


def test_numbers_booleans_and_durations_are_read_by_their_field() -> None:
    whole = value('{name: "x", count: 1_0, on: yes, wait: 1d12h, part: {share: 1e-3, bounds: [-.inf, "7"]}}')
    assert (whole.count, whole.on, whole.wait) == (10, True, timedelta(hours=36))
    assert whole.part == Part(share=0.001, bounds=(float("-inf"), 7.0))


def test_null_is_none_where_none_is_allowed_and_a_fault_elsewhere() -> None:
    assert value("{name: x, wait: null}").wait is None
    assert wrong("name: x\ncount:\npart: ~\n") == [
        "f.yaml:2 count: is empty. Give it a value, or leave the key out if it has a default.",
        "f.yaml:3 part: is empty. Give it a value, or leave the key out if it has a default.",
    ]


def test_a_question_mark_behind_a_type_needs_no_quotes_in_a_flow_mapping() -> None:
    whole = value("name: what? so, {x}?\ntypes: {a: double?, b: int? , 'c?': \"d?, e\", f: int?}\n")
    assert whole.name == "what? so, {x}?"
    assert whole.types == {"a": "double?", "b": "int?", "c?": "d?, e", "f": "int?"}


def test_anchors_and_merges_work_and_own_keys_win() -> None:
    whole = value("name: x\npart: &p {share: 0.1, bounds: [1, 2]}\nparts: [*p, {<<: *p, share: 0.2}]\n")
    assert whole.parts == (Part(share=0.1, bounds=(1, 2)), Part(share=0.2, bounds=(1, 2)))


def test_a_key_that_comes_twice_is_a_fault_with_both_lines() -> None:
    assert wrong("name: x\ncount: 1\ncount: 2\n") == [
        "f.yaml:3 count: is there twice, on line 2 and on line 3. Keep one of them."
    ]


def test_a_fault_of_post_init_is_attached_to_its_field_beside_the_others() -> None:
    assert wrong("name: x\non: maybe\ncount: 11\n") == [
        "f.yaml:2 on: 'maybe' is neither true nor false. Write true or false.",
        "f.yaml:3 count: must be at most 10. Write for example 3.",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: x\nnam: y", "f.yaml:2 nam: there is no such key. Did you mean name?"),
        ("count: 1", "f.yaml:1 name: is missing. Add it."),
        ("name: ''", "f.yaml:1 name: is empty."),
        ("name: [x]", "f.yaml:1 name: is a list where one value is meant."),
        ("name: x\ncount: 1.5", "f.yaml:2 count: '1.5' is no whole number."),
        ("name: x\npart: {share: 20%}", "f.yaml:2 part.share: '20%' is no number. Write 0.2."),
        ("name: x\npart: {share: nan}", "f.yaml:2 part.share: is not a number."),
        ("name: x\nparts:\n- share: 1\n- shar: 2", "f.yaml:4 parts[1].shar: there is no such key."),
        ("name: x\npart: {bounds: [1]}", "f.yaml:2 part.bounds: has 1 values where 2 are meant."),
        ("name: x\ntexts: a", "f.yaml:2 texts: is one value where a list is meant. Write [a]."),
        ("name: x\ntypes: [a]", "f.yaml:2 types: is a list where a mapping is meant."),
        ("name: x\nwait: 30", "f.yaml:2 wait: '30' is no duration. Say the unit: 30s, 30m, 30h or 30d."),
        ("name: x\nkind: cvs", "f.yaml:2 kind: 'cvs' is none of csv, parquet. Did you mean csv?"),
        (
            "name: !!python/name:os.system x",
            "f.yaml:1 name: has the tag !!python/name:os.system, which is not allowed.",
        ),
        ("name: x\n? [a, b]\n: c", "f.yaml:2 (sequence): is no plain key."),
        ("name: x\npart: {<<: 3}", "f.yaml:2 part.<<: merges something that is no mapping."),
        ("", "f.yaml:1: is empty or no mapping of keys to values."),
        ("- a", "f.yaml:1: is empty or no mapping"),
        ("name: x\n\tcount: 1", "f.yaml:2: is no YAML: "),
        ("name: 'x", "f.yaml:1: is no YAML: "),
        ("name: x\n---\nname: y", "f.yaml:2: is no YAML: "),
        ("[" * 20_000, "f.yaml:"),
        ("name: \x07", "f.yaml:1: is no YAML: "),
    ],
)
def test_faults_name_line_field_and_cure(text: str, fault: str) -> None:
    found = wrong(text)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_a_faulty_field_hides_the_faults_in_it() -> None:
    faults = Faults("f")
    faults.add("a.b", "first", "")
    faults.add("a.b[0].c", "follows", "")
    faults.add("a.bc", "another", "")
    assert [fault.what for fault in faults.all()] == ["first", "another"]
    assert faults.about("a.b.x") and not faults.about("a")


@given(st.integers(0, 400), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_durations_are_the_sum_of_their_parts(d: int, h: int, m: int, s: int) -> None:
    assert duration(f"{d}d{h}h{m}m{s}s") == timedelta(days=d, hours=h, minutes=m, seconds=s)


@pytest.mark.parametrize("text", ["", "10", "s", "1w", "1h1d", "-1s", "1.5h", "1 d", "٣s٣"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration(text)


def test_the_nearest_name_is_found_without_regard_to_case() -> None:
    assert nearest("ROC-AUC", ["roc_auc", "rmse"]) == "Did you mean roc_auc?"
    assert nearest("zzz", ["a", "b"]) == "Known: a, b."
    assert nearest("zzz", []) == "There is none yet."
