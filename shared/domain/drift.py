"""Drift: a reference profile with fixed bins, mergeable counts of new data in them, and their distance.

Bins come from the reference alone, so profiles, windows and hours of a log can be counted apart, stored
and added. Only counting needs numpy, which is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

from shared.domain.pipelines import Drift

if TYPE_CHECKING:
    import numpy as np

BINS = 10
"""Quantile bins of a numeric column; a value that fills several of them gets one of its own."""
CATEGORIES = 50
"""Categories that are counted by name, the most frequent ones; the rest is counted together."""
SMOOTHING = 0.5
"""Rows added to every bin before shares are taken for PSI (the Jeffreys prior of a multinomial)."""
FALSE_ALARMS = 0.001
"""How often PSI exceeds :attr:`ColumnDrift.psi_noise` in a column that did not change."""
CERTAINTY = 1e-5
"""How often at most a check names any column when none changed: with 720 checks a month, in less than 1 % of months."""
EXPECTED = 1
"""Rows that a bin is expected to have on either side, to be a bin of its own in the chi-square test."""

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True, kw_only=True)
class ColumnCounts:
    """Rows of one column: ``counts`` by bin or category, ``other`` (no named category, no number) and ``nulls``."""

    counts: tuple[int, ...]
    other: int = 0
    nulls: int = 0

    @property
    def rows(self) -> int:
        """All rows counted."""
        return sum(self.counts) + self.other + self.nulls

    def __add__(self, more: ColumnCounts) -> ColumnCounts:
        """Counts of both together. Raises ValueError when they were counted in different bins."""
        if len(self.counts) != len(more.counts):
            raise ValueError(f"counts of {len(self.counts)} and {len(more.counts)} bins come from different profiles")
        return ColumnCounts(
            counts=tuple(a + b for a, b in zip(self.counts, more.counts, strict=True)),
            other=self.other + more.other,
            nulls=self.nulls + more.nulls,
        )


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """A column of the reference: its bins, and how its rows fall into them.

    numeric: bin i holds edges[i-1] <= x < edges[i], the first and the last are open; ``minimum``,
    ``maximum``, ``mean`` and ``std`` (population) are of the finite values, None when there are none
    or the value is beyond float64. ``centres`` are the means of the finite values in each bin, for an
    empty one a value within it; none of them when one is beyond float64.
    categorical: ``categories`` are the names of the bins, the most frequent first.
    """

    kind: Kind
    reference: ColumnCounts
    edges: tuple[float, ...] = ()
    centres: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What the reference data look like, column by column. Stored with to_record, read with from_record."""

    rows: int
    columns: dict[str, ColumnProfile]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of some data in the bins of a profile. ``Summary()`` is the empty one.

    Summaries of the same profile can be added in any order and grouping; a column that one of them lacks
    counts nothing there.
    """

    rows: int = 0
    columns: dict[str, ColumnCounts] = field(default_factory=dict)

    def __add__(self, more: Summary) -> Summary:
        """The summary of both data together. Raises ValueError when they come from different profiles."""
        columns = dict(self.columns)
        for name, counts in more.columns.items():
            columns[name] = columns[name] + counts if name in columns else counts
        return Summary(rows=self.rows + more.rows, columns=columns)


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    """How far a column is from the reference. Nulls and values without a bin count as bins of their own.

    ``psi`` is the population stability index over smoothed shares, from 0 up; ``psi_noise`` is what it
    exceeds once in 1,000 windows of this many rows when nothing has changed. ``jensen_shannon`` is the
    distance (the root of the divergence, base 2), 0 to 1, over plain shares. ``chi_square`` is Pearson's
    statistic of the two rows of counts, ``degrees`` its degrees of freedom, ``p_value`` the probability of
    as much or more without drift. ``kolmogorov_smirnov`` and ``wasserstein`` are of numeric columns alone
    and of the values that are numbers (0 for others, see :func:`compare`). ``unseen_share`` is the share of rows in
    categories that the reference did not have; where the reference had more categories than are named,
    what exceeds its own share of unnamed ones. In a numeric column: values that are no numbers.
    """

    psi: float
    psi_noise: float
    jensen_shannon: float
    null_share: float
    reference_null_share: float
    unseen_share: float
    chi_square: float = 0.0
    degrees: int = 0
    p_value: float = 1.0
    kolmogorov_smirnov: float = 0.0
    wasserstein: float = 0.0


def profile_of(columns: Mapping[str, np.ndarray], kinds: Mapping[str, str] | None = None) -> Profile:
    """The profile of reference ``columns``, each (rows,) of any dtype.

    ``kinds`` says numeric or categorical by column; for others it is taken from the values: booleans,
    text and mixed types are categorical, numbers, dates and times numeric. Whole numbers stay numeric
    however few they are, since a frequent value gets a bin of its own. Dates and times are numbers of
    seconds since 1970 (UTC when they name no zone). None, NaN, NaT and pandas.NA are nulls; infinities
    fall into the outermost bins.

    Raises ValueError when columns differ in length or a kind is unknown.
    """
    import numpy as np

    arrays = {name: np.asarray(values) for name, values in columns.items()}
    rows = _common_length(arrays)
    chosen = {name: (kinds or {}).get(name) or _kind_of(values) for name, values in arrays.items()}
    for name, kind in chosen.items():
        if kind not in ("numeric", "categorical"):
            raise ValueError(f"column {name}: {kind!r} is no kind, say numeric or categorical")
    return Profile(
        rows=rows,
        columns={
            name: _numeric_profile(values) if chosen[name] == "numeric" else _categorical_profile(values)
            for name, values in arrays.items()
        },
    )


def summarise(profile: Profile, columns: Mapping[str, np.ndarray]) -> Summary:
    """Counts of ``columns``, each (rows,) of any dtype, in the bins of ``profile``.

    Columns that the profile does not know are passed over, columns that are not given are left out.
    Values are read as the reference's kind: text of a number or an ISO 8601 time counts as such in a
    numeric column, 1, 1.0 and "1" are one category.

    Raises ValueError when columns differ in length.
    """
    import numpy as np

    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return Summary(
        rows=_common_length(arrays),
        columns={
            name: _count(profile.columns[name], values) for name, values in arrays.items() if name in profile.columns
        },
    )


def compare(profile: Profile, summary: Summary) -> dict[str, ColumnDrift]:
    """The distance of every column that has rows in both.

    PSI = sum over bins of (q - p) ln(q / p), p of the reference and q of the new rows (Siddiqi, Credit
    Risk Scorecards, 2006), the symmetrised Kullback-Leibler divergence of Jeffreys. Bins that are empty
    in both are left out and :data:`SMOOTHING` rows are added to the others, so that a bin which is empty
    by chance in a small window costs little and one that is empty in truth still counts. Without drift PSI
    is about (1/n + 1/m) times a chi-square variable with bins - 1 degrees of freedom (Yurdakul &
    Naranjo, Statistical properties of the population stability index, Journal of Risk Model Validation
    14(3), 2020), whose upper quantile is ``psi_noise``.

    Pearson's chi-square test of homogeneity takes the rarest bins together until each has at least
    :data:`EXPECTED` expected row on either side (Cochran, Some methods for strengthening the common
    chi-square tests, Biometrics 10(4), 1954): with less, its p-value says nothing.

    Kolmogorov-Smirnov is the largest distance of the two distribution functions at the edges. Between
    edges it may be larger, by at most the largest min(p, q) of a bin: about 1 / :data:`BINS` for a
    continuous column, nothing for a value with a bin of its own. Wasserstein is that of order 1 between the
    reference's ``centres`` with both weights, in the column's unit; it differs from the exact one by at
    most the mean distance of the values on both sides from the centre of their bin, added up.
    """
    drifts = {}
    for name, counted in summary.columns.items():
        column = profile.columns.get(name)
        if column is not None and counted.rows and column.reference.rows:
            drifts[name] = _distance(column, counted)
    return drifts


def drifted(comparison: Mapping[str, ColumnDrift], policy: Drift, rows: int) -> tuple[str, ...]:
    """Columns that changed much and for certain, the farthest first.

    Much: PSI, the size of the effect, reaches ``policy.psi``. For certain: the chi-square test rejects
    that nothing changed, by Holm's procedure over all columns (A simple sequentially rejective multiple
    test procedure, Scandinavian Journal of Statistics 6(2), 1979), so that the probability of naming any
    unchanged column in a check is at most :data:`CERTAINTY`, however many columns there are and however
    they hang together. With many rows a small change is certain, too, and is no drift; with few a large PSI is chance.

    ``rows`` are the rows of the new data; below ``policy.min_rows`` of them nothing is said.
    """
    if rows < policy.min_rows:
        return ()
    certain = _certain({name: drift.p_value for name, drift in comparison.items()})
    found = [(drift.psi, name) for name, drift in comparison.items() if drift.psi >= policy.psi and name in certain]
    return tuple(name for _, name in sorted(found, key=lambda item: (-item[0], item[1])))


def _certain(p_values: Mapping[str, float]) -> set[str]:
    """Names that Holm's procedure rejects: each p-value against the level shared by it and all larger ones."""
    certain: set[str] = set()
    for name, p_value in sorted(p_values.items(), key=lambda item: item[1]):
        if p_value > CERTAINTY / (len(p_values) - len(certain)):
            break
        certain.add(name)
    return certain


def sustained(recent: Sequence[bool], k: int, n: int) -> bool:
    """True when at least ``k`` of the last ``n`` checks (the newest is last) found drift."""
    return sum(recent[-n:]) >= k


def _common_length(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def _kind_of(values: np.ndarray) -> Kind:
    if values.dtype.kind in "iufMm":
        return "numeric"
    if values.dtype.kind != "O":
        return "categorical"
    from shared.domain.categories import is_null

    kinds = {
        _kind_of_type(kind)
        for kind in set(map(type, values))
        if any(type(value) is kind and not is_null(value) for value in values)
    }
    return "numeric" if kinds == {"number"} or kinds == {"time"} else "categorical"


def _kind_of_type(kind: type) -> str:
    import numpy as np

    if issubclass(kind, bool | np.bool_):
        return "category"
    if issubclass(kind, date):
        return "time"
    return "number" if hasattr(kind, "__float__") else "category"


def _numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, nulls): float64 with NaN for a null and for what is no number, and which are null."""
    import numpy as np

    from shared.domain.categories import is_null

    if values.dtype.kind == "M":
        seconds = (values - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        return seconds, np.isnat(values)
    if values.dtype.kind == "m":
        return values / np.timedelta64(1, "s"), np.isnat(values)
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64, copy=False)
        return numbers, np.isnan(numbers)
    nulls = np.fromiter((is_null(value) for value in values), dtype=bool, count=len(values))
    numbers = np.full(len(values), np.nan)
    try:
        numbers[~nulls] = values[~nulls].astype(np.float64)
    except (TypeError, ValueError):
        numbers[~nulls] = [_number(value) for value in values[~nulls]]
    return numbers, nulls


def _number(value: Any) -> float:
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        return moment.timestamp() if moment.tzinfo else (moment - datetime(1970, 1, 1)).total_seconds()
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return _number(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return math.nan


def _numeric_profile(values: np.ndarray) -> ColumnProfile:
    import numpy as np

    numbers, _ = _numbers(values)
    finite = np.sort(numbers[np.isfinite(numbers)])
    if not len(finite):
        return ColumnProfile(kind="numeric", reference=_count_numbers((), values))
    edges = _edges(finite)
    return ColumnProfile(
        kind="numeric",
        reference=_count_numbers(edges, values),
        edges=edges,
        centres=_centres(finite, edges),
        minimum=float(finite[0]),
        maximum=float(finite[-1]),
        mean=_finite(finite.mean),
        std=_finite(finite.std),
    )


def _centres(finite: np.ndarray, edges: tuple[float, ...]) -> tuple[float, ...]:
    import numpy as np

    lower, upper = (-math.inf, *edges), (*edges, math.inf)
    within = (*edges[:1], *edges) or (0.0,)
    with np.errstate(over="ignore", invalid="ignore"):
        bins = np.split(finite, np.searchsorted(finite, np.array(edges), side="left"))
        # A mean that rounding has put beside its bin is brought back into it.
        centres = tuple(
            min(max(float(values.mean()), low), high) if len(values) else inner
            for values, low, high, inner in zip(bins, lower, upper, within, strict=True)
        )
    return centres if all(map(math.isfinite, centres)) else ()


def _finite(statistic: Callable[[], Any]) -> float | None:
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        value = float(statistic())
    return value if math.isfinite(value) else None


def _edges(finite: np.ndarray) -> tuple[float, ...]:
    """Quantiles of values in order (Hyndman & Fan's first), each a value that occurs.

    Behind one that comes twice is another edge, so that it is a bin alone.
    """
    import numpy as np

    quantiles = finite[[-(-i * len(finite) // BINS) - 1 for i in range(1, BINS)]]
    distinct, times = np.unique(quantiles, return_counts=True)
    edges = np.union1d(distinct, np.nextafter(distinct[times > 1], np.inf))
    return tuple(float(edge) for edge in edges[np.isfinite(edges)])


def _categorical_profile(values: np.ndarray) -> ColumnProfile:
    from shared.domain.categories import tally

    by_text, nulls = tally(values)
    named = sorted(by_text.items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES]
    categories = tuple(text for text, _ in named)
    reference = _count_named(categories, by_text, nulls)
    return ColumnProfile(kind="categorical", reference=reference, categories=categories)


def _count(column: ColumnProfile, values: np.ndarray) -> ColumnCounts:
    if column.kind == "numeric":
        return _count_numbers(column.edges, values)
    return _count_categories(column.categories, values)


def _count_numbers(edges: tuple[float, ...], values: np.ndarray) -> ColumnCounts:
    import numpy as np

    numbers, null = _numbers(values)
    known = len(values) - int(np.isnan(numbers).sum())
    # A comparison with each of the few edges is several times faster than a search for each of the many values.
    below = [int(np.count_nonzero(numbers < edge)) for edge in edges]
    counts = (after - before for before, after in pairwise((0, *below, known)))
    nulls = int(null.sum())
    return ColumnCounts(counts=tuple(counts), other=len(values) - known - nulls, nulls=nulls)


def _count_categories(categories: tuple[str, ...], values: np.ndarray) -> ColumnCounts:
    from shared.domain.categories import tally

    return _count_named(categories, *tally(values))


def _count_named(categories: tuple[str, ...], by_text: Mapping[str, int], nulls: int) -> ColumnCounts:
    counts = tuple(by_text.get(text, 0) for text in categories)
    return ColumnCounts(counts=counts, other=sum(by_text.values()) - sum(counts), nulls=nulls)


def _distance(column: ColumnProfile, counted: ColumnCounts) -> ColumnDrift:
    import numpy as np

    reference = column.reference
    bins = np.array([[*side.counts, side.other, side.nulls] for side in (reference, counted)], dtype=np.float64)
    n, m = reference.rows, counted.rows
    used = bins[:, bins.any(axis=0)]
    degrees, chi_square = _chi_square(used)
    below = bins[:, :-2].cumsum(axis=1)
    gaps = np.zeros(1)
    if column.kind == "numeric" and below[:, -1].all():
        gaps = np.diff(below / below[:, -1:], axis=0)[0]
    return ColumnDrift(
        psi=float(psi(used[0], used[1])),
        psi_noise=(1 / n + 1 / m) * _chi_square_quantile(1 - FALSE_ALARMS, used.shape[1] - 1),
        jensen_shannon=_jensen_shannon(used[0] / n, used[1] / m),
        null_share=counted.nulls / m,
        reference_null_share=reference.nulls / n,
        unseen_share=max(0.0, counted.other / m - reference.other / n),
        chi_square=chi_square,
        degrees=degrees,
        p_value=chi_square_tail(chi_square, degrees),
        kolmogorov_smirnov=float(np.abs(gaps).max()),
        wasserstein=_wasserstein(gaps, column.centres),
    )


def psi(reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """PSI of ``counts`` (..., bins) of any number of windows against those of the ``reference`` (bins,).

    Bins that are empty in the reference and in a window count nothing there.
    """
    import numpy as np

    used = (reference > 0) | (counts > 0)
    shares = []
    for side in (np.broadcast_to(reference, counts.shape), counts):
        smoothed = np.where(used, side + SMOOTHING, 0.0)
        shares.append(np.where(used, smoothed / smoothed.sum(axis=-1, keepdims=True), 1.0))
    p, q = shares
    return ((q - p) * np.log(q / p)).sum(axis=-1)


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Root of the mean divergence from the mixture, base 2 (Lin 1991; a metric: Endres & Schindelin 2003)."""
    import numpy as np

    mixture = (p + q) / 2
    total = sum(float((side[side > 0] * np.log2(side[side > 0] / mixture[side > 0])).sum()) for side in (p, q))
    return math.sqrt(max(0.0, total / 2))


def _chi_square(counts: np.ndarray) -> tuple[int, float]:
    """(degrees of freedom, Pearson's statistic) of two rows of counts without an empty bin."""
    import numpy as np

    sides = counts.sum(axis=1, keepdims=True)
    counts = counts[:, np.argsort(counts.sum(axis=0), kind="stable")]
    smallest = counts.sum(axis=0) * sides.min() / sides.sum()
    if smallest[0] < EXPECTED:
        rare, needed = (int((sizes < EXPECTED).sum()) for sizes in (smallest, smallest.cumsum()))
        together = max(rare, min(needed + 1, len(smallest)))
        counts = np.column_stack([counts[:, :together].sum(axis=1), counts[:, together:]])
    expected = counts.sum(axis=0) * sides / sides.sum()
    return counts.shape[1] - 1, float(((counts - expected) ** 2 / expected).sum())


def chi_square_tail(statistic: float, degrees: int) -> float:
    """The probability that a chi-square variable is at least ``statistic``; 1 without degrees of freedom.

    The finite sums of Abramowitz & Stegun, Handbook of Mathematical Functions, 26.4.4 and 26.4.5.
    """
    half = statistic / 2
    if degrees == 0 or half <= 0:
        return 1.0
    first = math.erfc(math.sqrt(half)) if degrees % 2 else 0.0
    powers = (j + (degrees % 2) / 2 for j in range(degrees // 2))
    return min(1.0, first + math.fsum(math.exp(j * math.log(half) - half - math.lgamma(j + 1)) for j in powers))


def _wasserstein(gaps: np.ndarray, centres: tuple[float, ...]) -> float:
    import numpy as np

    if len(centres) != len(gaps):
        return 0.0
    with np.errstate(over="ignore"):
        distance = float((np.abs(gaps[:-1]) * np.diff(centres)).sum())
    return distance if math.isfinite(distance) else 0.0


def _chi_square_quantile(probability: float, degrees: int) -> float:
    """Wilson & Hilferty's approximation (1931), within a few percent in the upper tail; 0 for no degrees of freedom."""
    if degrees == 0:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + NormalDist().inv_cdf(probability) * math.sqrt(spread)) ** 3
