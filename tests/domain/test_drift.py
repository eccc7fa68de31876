"""Drift is a distance between counts in the reference's bins, told apart from noise."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import chi2, chi2_contingency, ks_2samp, wasserstein_distance

from shared.domain.categories import encode, tally
from shared.domain.drift import (
    CERTAINTY,
    SMOOTHING,
    ColumnCounts,
    ColumnDrift,
    ColumnProfile,
    Profile,
    Summary,
    chi_square_tail,
    compare,
    drifted,
    profile_of,
    psi,
    summarise,
    sustained,
)
from shared.domain.pipelines import Drift
from shared.domain.records import from_record, to_record


def objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def column(reference: np.ndarray, new: np.ndarray, kind: str | None = None) -> ColumnDrift:
    profile = profile_of({"x": reference}, {"x": kind} if kind else None)
    return compare(profile, summarise(profile, {"x": new}))["x"]


def bins(counts: ColumnCounts) -> np.ndarray:
    return np.array([*counts.counts, counts.other, counts.nulls], dtype=float)


NUMBERS = st.lists(
    st.one_of(st.none(), st.integers(-5, 5), st.floats(), st.booleans(), st.sampled_from(["3", "x", ""])), max_size=60
)


# distances


@given(NUMBERS.filter(len), NUMBERS.filter(len), st.sampled_from(["numeric", "categorical"]))
def test_distances_equal_scipy_on_the_same_bins(reference: list[Any], new: list[Any], kind: str) -> None:
    profile = profile_of({"x": objects(*reference)}, {"x": kind})
    summary = summarise(profile, {"x": objects(*new)})
    p, q = bins(profile.columns["x"].reference), bins(summary.columns["x"])
    drift = compare(profile, summary)["x"]
    assert drift.jensen_shannon == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    used = (p > 0) | (q > 0)
    p, q = p[used] + SMOOTHING, q[used] + SMOOTHING
    p, q = p / p.sum(), q / q.sum()
    assert drift.psi == pytest.approx((rel_entr(p, q) + rel_entr(q, p)).sum(), abs=1e-12)


@given(st.floats(0, 2000), st.integers(1, 120))
def test_the_tail_of_chi_square_is_scipys(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), rel=1e-9, abs=1e-300)


@given(st.lists(st.tuples(st.integers(60, 9999), st.integers(60, 9999)), min_size=2, max_size=50))
def test_chi_square_equals_scipys_where_every_bin_has_rows_enough(pairs: list[tuple[int, int]]) -> None:
    names = tuple(f"c{number:02}" for number in range(len(pairs)))
    before, now = (ColumnCounts(counts=side) for side in zip(*pairs, strict=True))
    column = ColumnProfile(kind="categorical", reference=before, categories=names)
    profile = Profile(rows=before.rows, columns={"x": column})
    drift = compare(profile, Summary(rows=now.rows, columns={"x": now}))["x"]
    expected = chi2_contingency(np.array([before.counts, now.counts]), correction=False)
    assert drift.degrees == expected.dof
    assert drift.chi_square == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert drift.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-300)


@given(NUMBERS.filter(len), NUMBERS.filter(len), st.sampled_from(["numeric", "categorical"]))
def test_chi_square_never_expects_less_than_a_row(reference: list[Any], new: list[Any], kind: str) -> None:
    drift = column(objects(*reference), objects(*new), kind)
    assert 0 <= drift.degrees < min(len(reference), len(new))
    assert 0 <= drift.chi_square <= len(reference) + len(new) + 1e-9 and 0 <= drift.p_value <= 1


FINITE = st.lists(st.floats(-1e6, 1e6).map(lambda number: round(number, 3)), min_size=1, max_size=60)


@given(FINITE, FINITE)
def test_wasserstein_and_kolmogorov_smirnov_equal_scipys_of_values_moved_to_the_centre_of_their_bin(
    reference: list[float], new: list[float]
) -> None:
    profile = profile_of({"x": np.array(reference)})
    counted = summarise(profile, {"x": np.array(new)})
    known, drift = profile.columns["x"], compare(profile, counted)["x"]
    centres = np.array(known.centres)
    weights = np.array([known.reference.counts, counted.columns["x"].counts])
    scale = max(1.0, float(np.abs(centres).max()))
    expected = wasserstein_distance(centres, centres, *weights)
    assert drift.wasserstein == pytest.approx(expected, abs=1e-9 * scale)
    moved = [np.repeat(np.arange(len(centres)), side) for side in weights]
    assert drift.kolmogorov_smirnov == pytest.approx(ks_2samp(*moved, method="asymp").statistic, abs=1e-12)


@given(FINITE, FINITE)
def test_what_binning_costs_keeps_within_its_bounds(reference: list[float], new: list[float]) -> None:
    profile = profile_of({"x": np.array(reference)})
    counted = summarise(profile, {"x": np.array(new)})
    known, drift = profile.columns["x"], compare(profile, counted)["x"]
    exact = ks_2samp(reference, new, method="asymp").statistic
    shares = [np.array(side.counts) / side.rows for side in (known.reference, counted.columns["x"])]
    assert drift.kolmogorov_smirnov <= exact + 1e-12
    assert exact <= drift.kolmogorov_smirnov + np.minimum(*shares).max() + 1e-12
    off = 0.0
    for side in (reference, new):
        bins = np.searchsorted(np.array(known.edges), np.array(side), side="right")
        off += float(np.abs(np.array(side) - np.array(known.centres)[bins]).mean())
    assert abs(drift.wasserstein - wasserstein_distance(reference, new)) <= off + 1e-6


def test_a_shift_of_a_column_is_its_wasserstein_distance() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=50_000)
    drift = column(values, values + 0.3)
    assert drift.wasserstein == pytest.approx(0.3, abs=0.06)
    assert drift.kolmogorov_smirnov == pytest.approx(ks_2samp(values, values + 0.3).statistic, abs=0.02)


def test_psi_of_many_windows_at_once_is_that_of_each() -> None:
    random = np.random.default_rng(0)
    reference, windows = random.integers(0, 50, 12), random.integers(0, 3, (40, 12))
    windows[:, 0] += 1
    assert psi(reference, windows) == pytest.approx([psi(reference, window) for window in windows])


def test_large_samples_have_the_textbook_psi() -> None:
    reference, new = np.repeat(["a", "b"], [50_000, 50_000]), np.repeat(["a", "b"], [60_000, 40_000])
    textbook = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert column(reference, new).psi == pytest.approx(textbook, rel=1e-3)


def test_the_reference_itself_has_not_drifted() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    drift = column(values, values)
    assert drift.psi == 0 and drift.jensen_shannon == 0 and drift.unseen_share == 0


def test_what_never_overlaps_has_distance_one() -> None:
    assert column(objects("a", "b"), objects("c", "d")).jensen_shannon == pytest.approx(1)


@pytest.mark.parametrize("degrees", [1, 2, 5, 10, 50])
def test_the_noise_is_the_upper_quantile_of_chi_square(degrees: int) -> None:
    names = np.array([f"c{number:02}" for number in range(degrees + 1)])
    drift = column(np.repeat(names[:50], 10), np.repeat(names, 10))
    expected = (1 / (10 * min(50, degrees + 1)) + 1 / (10 * (degrees + 1))) * chi2.ppf(0.999, degrees)
    assert drift.psi_noise == pytest.approx(expected, rel=0.04)


GENERATORS = {
    "normal": lambda random, n: random.normal(size=n),
    "rare flag": lambda random, n: (random.random(n) < 0.02).astype(int),
    "months": lambda random, n: random.integers(0, 73, n),
    "many categories": lambda random, n: random.choice(
        200, n, p=1 / np.arange(1, 201) / (1 / np.arange(1, 201)).sum()
    ).astype(str),
    "some nulls": lambda random, n: np.where(random.random(n) < 0.05, np.nan, random.exponential(size=n)),
}


@pytest.mark.parametrize("rows", [20, 100, 500])
def test_small_windows_do_not_cry_wolf(rows: int) -> None:
    random = np.random.default_rng(rows)
    profile = profile_of({name: draw(random, 5000) for name, draw in GENERATORS.items()})
    policy = Drift(min_rows=1, psi=0.1)
    alarms = 0
    for _ in range(100):
        window = {name: draw(random, rows) for name, draw in GENERATORS.items()}
        alarms += len(drifted(compare(profile, summarise(profile, window)), policy, rows))
    assert alarms == 0, "500 columns that did not change"


def test_real_drift_is_found_in_a_small_window() -> None:
    random = np.random.default_rng(1)
    profile = profile_of({"x": random.normal(size=5000), "y": random.normal(size=5000)})
    window = {"x": random.normal(1.0, 1.0, 200), "y": random.normal(size=200)}
    assert drifted(compare(profile, summarise(profile, window)), Drift(min_rows=100), 200) == ("x",)


def test_a_tiny_window_has_a_finite_psi() -> None:
    assert column(np.arange(1000.0), np.array([5.0])).psi < 5


# bins


def test_bins_hold_the_same_share_of_the_reference() -> None:
    profile = profile_of({"x": np.random.default_rng(0).normal(size=10_000)}).columns["x"]
    assert len(profile.reference.counts) == 10
    assert max(profile.reference.counts) - min(profile.reference.counts) <= 2


def test_a_value_that_fills_bins_is_a_bin_of_its_own() -> None:
    values = np.array([0] * 600 + [1] * 300 + [7] * 100)
    for changed in (-1, 0.5, 2):
        assert column(values, np.where(values == 0, changed, values)).psi > 1, changed


def test_leaving_a_constant_is_drift_in_both_directions() -> None:
    constant = np.full(500, 3.0)
    assert column(constant, constant).psi == 0
    for other in (2.999999, 3.000001):
        assert column(constant, np.full(500, other)).psi > 5


def test_values_beyond_the_reference_fall_into_the_outermost_bins() -> None:
    profile = profile_of({"x": np.arange(100.0)})
    counts = summarise(profile, {"x": np.array([-np.inf, -1e300, 1e300, np.inf])}).columns["x"]
    assert (counts.counts[0], counts.counts[-1], counts.nulls) == (2, 2, 0)


@given(st.lists(st.floats(allow_nan=True), max_size=50), st.lists(st.floats(), max_size=50))
def test_any_numbers_can_be_profiled_stored_and_counted(reference: list[float], new: list[float]) -> None:
    profile = profile_of({"x": np.array(reference, dtype=float)})
    stored = json.loads(json.dumps(to_record(profile), allow_nan=False))
    assert from_record(Profile, stored) == profile
    edges = profile.columns["x"].edges
    assert list(edges) == sorted(set(edges))
    summary = summarise(profile, {"x": np.array(new, dtype=float)})
    assert summary.columns["x"].rows == len(new)
    for drift in compare(profile, summary).values():
        assert all(math.isfinite(value) and value >= 0 for value in to_record(drift).values())


def test_moments_are_of_the_finite_values() -> None:
    profile = profile_of({"x": np.array([1.0, 3.0, np.nan, np.inf])}).columns["x"]
    assert (profile.minimum, profile.maximum, profile.mean, profile.std) == (1.0, 3.0, 2.0, 1.0)
    assert profile_of({"x": np.array([1e308, 1.7e308])}).columns["x"].mean is None


def test_the_most_frequent_categories_are_named_and_the_rest_counted() -> None:
    values = np.repeat([f"c{number:03}" for number in range(80)], range(80, 0, -1))
    profile = profile_of({"x": values}).columns["x"]
    assert profile.categories == tuple(f"c{number:03}" for number in range(50))
    assert profile.reference.other == sum(range(1, 31))


def test_an_unseen_category_is_counted() -> None:
    drift = column(objects("a", "b", "a", "b"), objects("a", "b", "c", "c"))
    assert drift.unseen_share == 0.5 and drift.psi > 0.2


def test_the_unnamed_rest_of_the_reference_is_not_unseen() -> None:
    values = np.array([str(number) for number in range(500)])
    assert column(values, values).unseen_share == 0
    assert column(values, np.array(["new"] * 500)).unseen_share == pytest.approx(0.1)


# values of any type


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1, 2, 3]), "numeric"),
        (np.array([True, False]), "categorical"),
        (np.array(["a", "b"]), "categorical"),
        (np.array(["2024-01-01"], dtype="datetime64[ns]"), "numeric"),
        (objects(1, 2.5, None, Decimal("3")), "numeric"),
        (objects(np.float32(1), np.int8(2)), "numeric"),
        (objects(True, None), "categorical"),
        (objects(np.True_, None), "categorical"),
        (objects(1, "a"), "categorical"),
        (objects("1", "2"), "categorical"),
        (objects(date(2024, 1, 1), datetime(2024, 1, 2), None), "numeric"),
        (objects(date(2024, 1, 1), 3), "categorical"),
        (objects(None, None), "categorical"),
        (np.array([], dtype=object), "categorical"),
    ],
)
def test_the_kind_is_taken_from_the_values(values: np.ndarray, kind: str) -> None:
    assert profile_of({"x": values}).columns["x"].kind == kind


def test_a_kind_can_be_given() -> None:
    assert profile_of({"x": np.array([1, 2])}, {"x": "categorical"}).columns["x"].categories == ("1", "2")
    with pytest.raises(ValueError, match="column x: 'ordinal' is no kind"):
        profile_of({"x": np.array([1])}, {"x": "ordinal"})


def test_nulls_of_every_kind_are_nulls() -> None:
    pandas = pytest.importorskip("pandas")
    profile = profile_of({"x": objects(1.0, 2.0), "c": objects("a", "b")})
    nulls = objects(None, float("nan"), np.nan, np.datetime64("NaT"), pandas.NA, pandas.NaT)
    summary = summarise(profile, {"x": nulls, "c": nulls})
    assert summary.columns["x"].nulls == summary.columns["c"].nulls == 6


def test_nulls_count_as_drift() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    drift = column(values, np.where(np.arange(1000) % 2, np.nan, values))
    assert (drift.null_share, drift.reference_null_share) == (0.5, 0.0)
    assert drift.psi > 0.5


def test_numbers_and_times_that_come_as_text_are_numbers() -> None:
    assert column(np.arange(100.0), objects(*[str(number) for number in range(100)])).psi == 0
    days = np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]")
    assert column(days, objects(*[str(day) for day in days])).psi == 0
    assert column(days, objects(*[datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in days])).psi == 0
    assert column(days, days.astype("datetime64[ns]")).psi == 0


def test_what_is_no_number_in_a_numeric_column_is_unseen() -> None:
    drift = column(np.arange(10.0), objects(1, "many", [1], {"a": 1}, None))
    assert drift.unseen_share == 0.6 and drift.null_share == 0.2


def test_one_category_has_one_name_in_a_file_and_in_a_request() -> None:
    assert column(np.array([True, False]), objects(True, False)).psi == 0
    assert column(objects(1, 0, None), objects(1.0, 0.0, None), "categorical").psi == 0
    assert column(objects(1, 0), objects("1", "0"), "categorical").psi == 0
    assert column(objects(True, False), objects(1, 0), "categorical").unseen_share == 1.0
    times = np.array(["2024-01-01T10:00:00"], dtype="datetime64[ns]")
    assert column(times, objects(datetime(2024, 1, 1, 10)), "categorical").psi == 0


def test_times_without_a_zone_are_utc() -> None:
    profile = profile_of({"x": objects(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2))}).columns["x"]
    assert profile.maximum - profile.minimum == 86400


# summaries


COUNTS = st.builds(
    ColumnCounts, counts=st.tuples(*[st.integers(0, 99)] * 3), other=st.integers(0, 9), nulls=st.integers(0, 9)
)
SUMMARIES = st.builds(Summary, rows=st.integers(0, 999), columns=st.dictionaries(st.sampled_from("abc"), COUNTS))


@given(SUMMARIES, SUMMARIES, SUMMARIES)
def test_summaries_add_in_any_order_and_grouping(one: Summary, two: Summary, three: Summary) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Summary() == one
    assert from_record(Summary, json.loads(json.dumps(to_record(one)))) == one


@given(NUMBERS, NUMBERS, NUMBERS)
def test_counting_parts_is_counting_the_whole(reference: list[Any], one: list[Any], two: list[Any]) -> None:
    profile = profile_of({"x": objects(*reference)}, {"x": "numeric"})
    parts = summarise(profile, {"x": objects(*one)}) + summarise(profile, {"x": objects(*two)})
    assert parts == summarise(profile, {"x": objects(*one, *two)})


def test_counts_of_different_profiles_do_not_add() -> None:
    with pytest.raises(ValueError, match="counts of 1 and 2 bins come from different profiles"):
        ColumnCounts(counts=(1,)) + ColumnCounts(counts=(1, 2))


def test_columns_that_one_side_lacks_are_passed_over() -> None:
    profile = profile_of({"a": np.arange(3), "b": np.arange(3)})
    summary = summarise(profile, {"b": np.arange(3), "c": np.arange(3)})
    assert list(summary.columns) == ["b"] and summary.rows == 3
    assert list(compare(profile, summary)) == ["b"]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"columns differ in length: \{'a': 1, 'b': 2"):
        profile_of({"a": np.arange(1), "b": np.arange(2)})


def test_an_empty_window_is_compared_with_nothing() -> None:
    profile = profile_of({"x": np.arange(3)})
    assert compare(profile, Summary()) == {}
    assert compare(profile, summarise(profile, {"x": np.array([], dtype=object)})) == {}
    empty = profile_of({"x": np.array([], dtype=float)})
    assert compare(empty, summarise(empty, {"x": np.arange(3)})) == {}
    assert profile_of({}) == Profile(rows=0, columns={})


# decisions


def drift_of(psi: float, p_value: float = 0.0) -> ColumnDrift:
    return ColumnDrift(
        psi=psi, psi_noise=0, jensen_shannon=0, null_share=0, reference_null_share=0, unseen_share=0, p_value=p_value
    )


def test_columns_drift_when_they_changed_much_and_for_certain() -> None:
    comparison = {
        "at the threshold": drift_of(0.2),
        "certain but little": drift_of(0.19),
        "far": drift_of(3.0, CERTAINTY / 4),
        "much by chance": drift_of(0.3, 2 * CERTAINTY),
    }
    assert drifted(comparison, Drift(psi=0.2, min_rows=500), 500) == ("far", "at the threshold")


@given(st.lists(st.floats(0, 3 * CERTAINTY), min_size=1, max_size=12))
def test_certainty_is_shared_by_the_columns_as_holm_does(p_values: list[float]) -> None:
    comparison = {f"c{number:02}": drift_of(1.0, p_value) for number, p_value in enumerate(p_values)}
    order = np.argsort(p_values, kind="stable")
    adjusted = np.maximum.accumulate(np.array(p_values)[order] * np.arange(len(p_values), 0, -1))
    expected = {f"c{number:02}" for number, p in zip(order, adjusted, strict=True) if p <= CERTAINTY * (1 - 1e-12)}
    border = {f"c{number:02}" for number, p in zip(order, adjusted, strict=True) if p <= CERTAINTY * (1 + 1e-12)}
    assert expected <= set(drifted(comparison, Drift(min_rows=1), 1)) <= border


def test_the_same_change_is_less_certain_among_many_columns() -> None:
    one = {"x": drift_of(1.0, CERTAINTY / 2)}
    many = one | {f"still {number}": drift_of(0.0, 0.5) for number in range(9)}
    assert drifted(one, Drift(min_rows=1), 1) == ("x",)
    assert drifted(many, Drift(min_rows=1), 1) == ()


def test_p_values_of_unchanged_columns_are_no_smaller_than_they_say() -> None:
    """Among 3,000 windows, the share with p below a level is about that level or less, for sparse columns, too."""
    random = np.random.default_rng(5)
    profile = profile_of({name: draw(random, 5000) for name, draw in GENERATORS.items()})
    p_values = [
        drift.p_value
        for _ in range(600)
        for drift in compare(
            profile, summarise(profile, {name: draw(random, 500) for name, draw in GENERATORS.items()})
        ).values()
    ]
    for level in (0.1, 0.01):
        assert sum(p <= level for p in p_values) <= 3000 * level + 4 * math.sqrt(3000 * level)


def test_nothing_drifts_below_min_rows() -> None:
    assert drifted({"x": drift_of(9.0)}, Drift(min_rows=500), 499) == ()


@pytest.mark.parametrize(
    ("recent", "k", "n", "expected"),
    [
        ([], 1, 1, False),
        ([True], 1, 1, True),
        ([True], 2, 3, False),
        ([True, True], 2, 3, True),
        ([True, False, True], 2, 3, True),
        ([True, True, False, False], 2, 3, False),
        ([True, True, True, False], 1, 1, False),
    ],
)
def test_drift_is_sustained_when_k_of_the_last_n_checks_found_it(
    recent: list[bool], k: int, n: int, expected: bool
) -> None:
    assert sustained(recent, k, n) is expected


@given(st.lists(st.sampled_from(["a", "1", 1, 1.0, True, None, math.nan, date(2026, 1, 1), "true"])))
def test_categories_are_tallied_as_they_are_encoded(values: list[Any]) -> None:
    column = np.array([*values, None], dtype=object)[:-1]
    codes, texts = encode(column)
    assert tally(column) == (dict(Counter(texts[code] for code in codes if code >= 0)), int((codes < 0).sum()))


def test_a_value_without_a_hash_is_a_category_by_its_text() -> None:
    column = np.array([[1, 2], [1, 2], None, 0], dtype=object)
    assert tally(column) == ({"[1, 2]": 2, "0": 1}, 1)
