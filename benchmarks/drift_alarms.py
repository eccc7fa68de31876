"""``python -m benchmarks.drift_alarms [--quick]``: how often drift is seen where there is none, and where there is.

The rows are those of samples/telco_churn.csv. Writes its tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
from scipy.stats import chi2

from shared.domain.drift import (
    ColumnCounts,
    ColumnProfile,
    Profile,
    Summary,
    compare,
    drifted,
    profile_of,
    psi,
    summarise,
    sustained,
)
from shared.domain.pipelines import Drift
from shared.settings import ROOT

CHECKS, WINDOW = 720, 24
"""Hourly checks of a month, each of the last 24 hours."""
POLICY = Drift()
RULES = (
    "a test of each column at 5 %",
    f"PSI from {POLICY.psi} on, nothing else",
    "Landfall without min_rows, one check",
    f"Landfall without min_rows, {POLICY.sustained}",
)
PAGE = ROOT / "docs" / "performance.md"

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shift:
    """A change of one column: ``apply`` makes it to rows drawn from unchanged ones."""

    what: str
    size: str
    column: str
    apply: Callable[[np.ndarray, np.random.Generator], np.ndarray]


def telco() -> Columns:
    """The columns that the customer-churn model takes, each customer a row."""
    sql = (ROOT / "pipelines" / "customer-churn" / "features.sql").read_text()
    sample = (ROOT / "samples" / "telco_churn.csv").as_posix()
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW landed AS SELECT * FROM read_csv('{sample}')")
    found: Columns = connection.sql(sql).fetchnumpy()
    return {name: np.ma.getdata(values) for name, values in found.items() if name not in ("customer_id", "churn")}


def split(rows: Columns, random: np.random.Generator) -> tuple[Profile, Columns]:
    """The profile of four fifths of the rows, and the fifth from which traffic is drawn."""
    count = len(next(iter(rows.values())))
    order = random.permutation(count)
    reference, rest = order[: count * 4 // 5], order[count * 4 // 5 :]
    return profile_of(_take(rows, reference)), _take(rows, rest)


def month(profile: Profile, traffic: Columns, an_hour: int, random: np.random.Generator) -> Iterator[str]:
    """The rules that raise an alarm in a month of unchanged traffic, of ``an_hour`` rows each hour."""
    hours = CHECKS + WINDOW - 1
    drawn = random.integers(0, len(next(iter(traffic.values()))), (hours, an_hour))
    windows, naive, large = {}, np.zeros(CHECKS, dtype=bool), np.zeros(CHECKS, dtype=bool)
    for name, column in profile.columns.items():
        reference = np.array([*column.reference.counts, column.reference.other, column.reference.nulls])
        codes = _codes(column, traffic[name])
        places = np.arange(hours)[:, None] * len(reference) + codes[drawn]
        counts = np.bincount(places.ravel(), minlength=hours * len(reference)).reshape(hours, -1)
        total = np.vstack([np.zeros((1, len(reference)), dtype=np.int64), counts.cumsum(axis=0)])
        windows[name] = total[WINDOW:] - total[:-WINDOW]
        distance = psi(reference, windows[name])
        degrees = int((reference > 0).sum()) - 1
        noise = (1 / profile.rows + 1 / (WINDOW * an_hour)) * chi2.ppf(0.95, degrees)
        naive |= distance > noise
        large |= distance >= POLICY.psi
    if naive.any():
        yield RULES[0]
    if large.any():
        yield RULES[1]
    # Nothing drifts below the threshold of PSI, so that the other checks need not be made.
    found = np.zeros(CHECKS, dtype=bool)
    for check in np.flatnonzero(large):
        counted = {
            name: ColumnCounts(counts=tuple(c[check, :-2].tolist()), other=int(c[check, -2]), nulls=int(c[check, -1]))
            for name, c in windows.items()
        }
        rows = WINDOW * an_hour
        found[check] = bool(drifted(compare(profile, Summary(rows=rows, columns=counted)), Drift(min_rows=1), rows))
    if found.any():
        yield RULES[2]
    if any(sustained(found[max(0, n - 2) : n + 1].tolist(), *POLICY.k_of_n) for n in range(CHECKS)):
        yield RULES[3]


def false_alarms(rows: Columns, months: int) -> list[str]:
    """The table of months with a false alarm, by rule and rate of traffic."""
    rates = (5, 25, 100)
    alarms: dict[tuple[str, int], int] = {}
    for rate in rates:
        random = np.random.default_rng(rate)
        for _ in range(months):
            profile, traffic = split(rows, random)
            for rule in month(profile, traffic, rate, random):
                alarms[rule, rate] = alarms.get((rule, rate), 0) + 1
    lines = [
        f"| {months} months of {CHECKS} checks | " + " | ".join(f"{WINDOW * rate:,} rows" for rate in rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for rule in RULES:
        shares = [f"{alarms.get((rule, rate), 0)} ({alarms.get((rule, rate), 0) / months:.1%})" for rate in rates]
        lines.append(f"| {rule} | {' | '.join(shares)} |")
    return lines


def shifts() -> list[Shift]:
    """Changes of four kinds, each in three sizes."""

    def some(values: np.ndarray, share: float, new: object, random: np.random.Generator) -> np.ndarray:
        changed = np.array(values, dtype=object)
        changed[random.random(len(values)) < share] = new
        return changed

    found = [
        Shift("monthly_charges rise", f"by {by:.0%}", "monthly_charges", lambda v, r, by=by: v * (1 + by))
        for by in (0.01, 0.02, 0.05)
    ]
    for what, column, new, shares in (
        ("two-year contracts spread", "contract", "Two year", (0.2, 0.3, 0.4)),
        ("tenure is missing", "tenure", None, (0.02, 0.03, 0.05)),
        ("a new payment method", "payment_method", "Wallet", (0.02, 0.03, 0.05)),
    ):
        found += [
            Shift(what, f"{share:.0%} of rows", column, lambda v, r, s=share, n=new: some(v, s, n, r))
            for share in shares
        ]
    return found


def detection(rows: Columns, windows: int) -> list[str]:
    """The table of shares of windows in which a shift is named, by its size and the window's."""
    sizes = (600, 2400, 24_000)
    lines = [
        "| shift | size | " + " | ".join(f"{size:,} rows" for size in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    random = np.random.default_rng(0)
    for shift in shifts():
        shares, distances = [], []
        for size in sizes:
            named = 0
            for _ in range(windows):
                profile, traffic = split(rows, random)
                drawn = _take(traffic, random.integers(0, len(traffic[shift.column]), size))
                drawn[shift.column] = shift.apply(drawn[shift.column], random)
                found = compare(profile, summarise(profile, drawn))
                named += shift.column in drifted(found, POLICY, size)
                distances.append(found[shift.column].psi)
            shares.append(f"{named / windows:.0%}")
        lines.append(f"| {shift.what} | {shift.size}, PSI {np.median(distances):.2f} | {' | '.join(shares)} |")
    return lines


def _take(rows: Columns, places: np.ndarray) -> Columns:
    return {name: values[places] for name, values in rows.items()}


def _codes(column: ColumnProfile, values: np.ndarray) -> np.ndarray:
    """The bin of each row, so that a month is counted at once; held to what the loop itself counts."""
    if column.kind == "numeric":
        codes = np.searchsorted(np.array(column.edges), values.astype(np.float64), side="right")
    else:
        number = {text: code for code, text in enumerate(column.categories)}
        codes = np.array([number.get(str(value), len(number)) for value in values])
    counted = summarise(Profile(rows=0, columns={"x": column}), {"x": values}).columns["x"]
    bins = [*counted.counts, counted.other, counted.nulls]
    if np.bincount(codes, minlength=len(bins)).tolist() != bins:
        raise AssertionError("the benchmark counts otherwise than the loop does")
    return codes


def main() -> None:
    """Measure, and put both tables where the page has its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer months and windows, for a look; writes nothing")
    quick = parser.parse_args().quick
    rows = telco()
    alarms, found = false_alarms(rows, 20 if quick else 300), detection(rows, 5 if quick else 20)
    print("\n".join([*alarms, "", *found]))
    if not quick:
        text = PAGE.read_text()
        for mark, lines in (("false alarms", alarms), ("detection", found)):
            pattern = rf"(<!-- {mark} -->\n).*?(<!-- end of {mark} -->)"
            text = re.sub(pattern, lambda m, lines=lines: m[1] + "\n".join(lines) + "\n" + m[2], text, flags=re.DOTALL)
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
