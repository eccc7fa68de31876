"""What a pipeline.yaml says, as frozen dataclasses in the order of the loop.

Names, types and defaults here are the schema: the catalog validates files against them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

NAME = re.compile(r"[a-z][a-z0-9-]{2,31}")
"""Pipeline and endpoint names: what a managed online endpoint accepts."""
MOST_MIRRORED = 50
"""Percent of the requests that may be copied to another deployment: no more is copied by Azure ML."""


@dataclass(frozen=True, kw_only=True)
class Complete:
    """When files that landed together are one batch.

    With ``marker`` a file of that name in the folder closes it; with ``each_file`` every file is a
    batch; else a ``quiet`` time without a new file does. ``max_wait`` closes it in any case.
    ``min_rows`` keeps a quiet batch open until it has that many rows or ``max_wait`` is over.
    """

    quiet: timedelta = timedelta(seconds=30)
    marker: str | None = None
    each_file: bool = False
    max_wait: timedelta = timedelta(minutes=10)
    min_rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule for one landed column. A batch that breaks it is rejected with counts and rows."""

    column: str
    max_null_share: float | None = None
    between: tuple[float, float] | None = None
    allowed: tuple[str, ...] | None = None
    unique: bool = False


@dataclass(frozen=True, kw_only=True)
class Landing:
    """Where data lands and what it must look like.

    ``columns`` maps a column to string, int, double, boolean, date or timestamp; a ``?`` behind it
    allows nulls. Empty means: as in the file. ``keep`` latest gives ``landed`` one row per key, the
    one that landed last; all keeps every row. ``expect_every`` raises an alarm when nothing lands
    for so long. With ``format`` sql-pool, on Azure alone, a file that lands holds no rows but names a
    table of a Synapse SQL pool: ``{"table": "<pool>.<schema>.<table>"}``.
    """

    path: str
    format: Literal["csv", "parquet", "jsonl", "delta", "sql-pool"] = "csv"
    complete: Complete = field(default_factory=Complete)
    expect_every: timedelta | None = None
    columns: dict[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    keep: Literal["latest", "all"] = "latest"


@dataclass(frozen=True, kw_only=True)
class Features:
    """How landed rows become features. ``label`` and ``key`` are columns of the result of ``sql``.

    ``price`` is that of an hour of the Spark pool, in the currency of ``retraining.cost``.
    """

    key: str
    label: str
    sql: str = "features.sql"
    test_share: float = 0.2
    price: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training job. ``timeout`` kills it with all its children.

    ``price`` is that of an hour of ``compute``, in the currency of ``retraining.cost``.
    """

    script: str = "train.py"
    environment: str = "environment.yml"
    image: str = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
    compute: str = "cpu-cluster"
    timeout: timedelta = timedelta(hours=2)
    price: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a challenger must show beside the champion on the challenger's held-out rows.

    ``metric`` is one of accuracy, balanced_accuracy, precision, recall, f1, roc_auc,
    average_precision, log_loss, brier (classification), rmse, mae, r2 (regression). The gain must be
    at least ``min_gain`` and its paired bootstrap interval at ``confidence`` must lie above zero;
    ``floors`` bound other metrics from below (losses from above); no slice of the ``slices`` columns
    may lose more than ``slice_tolerance``; limits are milliseconds per one-row call and megabytes.
    ``positive`` names the class that precision, recall, f1, roc_auc, average_precision and brier speak
    of (default: the last in sort order). With more than two classes they are averages, weighted by how
    often each class occurs; with ``average`` weighted precision, recall and f1 are so with two, too.
    """

    metric: str = "accuracy"
    min_gain: float = 0.0
    confidence: float = 0.95
    floors: dict[str, float] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    slice_tolerance: float = 0.05
    min_slice_rows: int = 50
    positive: str | None = None
    average: Literal["binary", "weighted"] = "binary"
    max_latency_ms: float = 1000.0
    max_size_mb: float = 1024.0
    approval: Literal["automatic", "manual"] = "automatic"


@dataclass(frozen=True, kw_only=True)
class RollbackWhen:
    """Limits that put traffic back to the champion while a rollout bakes."""

    error_rate: float = 0.01
    p95_ms: float = 1000.0
    prediction_psi: float = 0.25
    min_requests: int = 20


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How traffic moves: ``steps`` in percent, rising from 1 or more to 100, each held for ``bake``.

    The champion's predecessor stays deployed for ``keep_previous``, or until the next one is promoted.

    With ``mirror`` (percent) a step comes before them, as long as each: the new version gets copies of so many of the
    requests, its answers are logged and judged by ``rollback_when`` but returned to nobody.
    """

    endpoint: str | None = None
    mirror: int = 0
    steps: tuple[int, ...] = (10, 50, 100)
    bake: timedelta = timedelta(minutes=10)
    keep_previous: timedelta = timedelta(hours=24)
    rollback_when: RollbackWhen = field(default_factory=RollbackWhen)
    instance_type: str = "Standard_DS3_v2"
    instance_count: int = 1

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 100 or self.steps[0] < 1:
            raise ValueError("steps: must rise from at least 1 to 100, for example [10, 50, 100]")


@dataclass(frozen=True, kw_only=True)
class Drift:
    """When the prediction log differs from the reference profile.

    Every ``every`` the last ``window`` of the log is compared; a column drifts from ``psi`` on, if a
    chi-square test, corrected for the number of columns, makes certain that it is no chance; nothing is
    said below ``min_rows``. Retraining follows when of the last n checks k called for it (``sustained``, "k of n"),
    not again within ``cooldown``.

    With ``retrain`` performance it is called for when the gate's metric is worse than on the held-out rows, for certain
    and by at least ``tolerance``: as estimated from the probabilities, or as it was on predictions of the last
    ``labels`` whose labels have landed. Drift alone calls for it with ``retrain`` drift, and where performance cannot
    be judged. Of rmse, mae and log_loss the tolerance is a share of the held-out value.
    """

    every: timedelta = timedelta(hours=1)
    window: timedelta = timedelta(hours=24)
    min_rows: int = 500
    psi: float = 0.2
    sustained: str = "2 of 3"
    cooldown: timedelta = timedelta(hours=6)
    retrain: Literal["performance", "drift"] = "performance"
    tolerance: float = 0.01
    labels: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        k, n = self.k_of_n
        if not 1 <= k <= n:
            raise ValueError(f"sustained: {self.sustained!r} must be k of n with 1 <= k <= n, for example 2 of 3")

    @property
    def k_of_n(self) -> tuple[int, int]:
        """(k, n) of ``sustained``. Raises ValueError when it is not of that form."""
        match = re.fullmatch(r"\s*(\d+)\s+of\s+(\d+)\s*", self.sustained)
        if not match:
            raise ValueError(f"sustained: {self.sustained!r} is not of the form 2 of 3")
        return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """When a pipeline trains again by itself: six-field NCRONTAB in UTC (None: never), and how often at most.

    ``budget`` counts retrainings an hour, a day, a week or a month, as in "5 a week". ``cost`` is money, as in "200 a
    month": when the pipeline's runs have cost so much in the period, of whatever cause they were, no retraining begins
    by itself.
    """

    schedule: str | None = "0 0 2 * * SUN"
    budget: str = "5 a week"
    cost: str | None = None

    def __post_init__(self) -> None:
        self.allowance  # noqa: B018
        if self.cost is not None:
            self.cost_allowance  # noqa: B018

    @property
    def allowance(self) -> tuple[int, timedelta]:
        """(runs, period) of ``budget``. Raises ValueError when it is not of that form."""
        most, period = _per_period(self.budget, r"\d+", "budget", "5 a week")
        return int(most), period

    @property
    def cost_allowance(self) -> tuple[float, timedelta]:
        """(money, period) of ``cost``. Raises ValueError when it is not of that form."""
        most, period = _per_period(self.cost or "", r"\d+(?:\.\d+)?", "cost", "20.50 a week")
        return float(most), period


def _per_period(text: str, number: str, field: str, example: str) -> tuple[str, timedelta]:
    match = re.fullmatch(rf"\s*({number})\s+an?\s+(hour|day|week|month)\s*", text)
    if not match:
        raise ValueError(f"{field}: {text!r} is not of the form {example} (hour, day, week or month)")
    days = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30}[match[2]]
    return match[1], timedelta(days=days)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One model's folder. A working pipeline needs name, landing.path, features.key and features.label."""

    name: str
    landing: Landing
    features: Features
    description: str = ""
    training: Training = field(default_factory=Training)
    gate: Gate = field(default_factory=Gate)
    rollout: Rollout = field(default_factory=Rollout)
    drift: Drift = field(default_factory=Drift)
    retraining: Retraining = field(default_factory=Retraining)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError("name: must be 3 to 32 lower-case letters, digits and dashes, a letter first")

    @property
    def endpoint(self) -> str:
        """Name of the online endpoint, the pipeline's own unless rollout.endpoint says another."""
        return self.rollout.endpoint or self.name


def paced(pipeline: Pipeline, pace: float) -> Pipeline:
    """The same pipeline with all its waiting divided by ``pace``; what takes work, not waiting, keeps its time."""
    if pace == 1:
        return pipeline
    landing, rollout, drift = pipeline.landing, pipeline.rollout, pipeline.drift
    complete = replace(landing.complete, quiet=landing.complete.quiet / pace, max_wait=landing.complete.max_wait / pace)
    return replace(
        pipeline,
        landing=replace(landing, complete=complete),
        rollout=replace(rollout, bake=rollout.bake / pace, keep_previous=rollout.keep_previous / pace),
        drift=replace(
            drift,
            every=drift.every / pace,
            window=drift.window / pace,
            cooldown=drift.cooldown / pace,
            labels=drift.labels / pace,
        ),
    )
