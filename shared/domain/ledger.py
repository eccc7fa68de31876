"""Entries of the run ledger: what is known of signals, batches, runs, versions and rollouts.

Each entry has a kind, a partition and a key; together they are unique. ``etag`` is the version that
was read, for compare-and-swap, and is no part of the stored record.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from shared.domain.gate import Evaluation, Verdict
from shared.domain.landing import LandedFile
from shared.domain.performance import Estimate
from shared.domain.realised import Realised
from shared.domain.signature import SignatureColumn
from shared.domain.spending import Spending


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """Base of all entries."""

    KIND: ClassVar[str]
    etag: str = field(default="", compare=False, metadata={"stored": False})

    @property
    @abstractmethod
    def partition(self) -> str:
        """Entries of one partition can be listed together."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells the entry from others of its kind and partition."""


@dataclass(frozen=True, kw_only=True)
class Claim(Entry):
    """One signal being handled or handled. ``status``: working or released, then done, nothing, alarm,
    rejected or failed."""

    KIND: ClassVar[str] = "claim"
    signal: str
    message: str
    status: str
    owner: str
    lease_until: datetime
    first_seen: datetime
    attempts: int = 1
    duplicates: int = 0
    reason: str = ""

    @property
    def partition(self) -> str:
        return self.signal

    @property
    def key(self) -> str:
        return "claim"


@dataclass(frozen=True, kw_only=True)
class DeadLetter(Entry):
    """A queue message that failed at every attempt, with the ``error`` of its last one.

    ``id`` is the queue's, the same when the message is given up again after a crash. ``replayed_at`` is when somebody
    put the message back on the queue, None while it waits for that.
    """

    KIND: ClassVar[str] = "deadletter"
    id: str
    message: str
    error: str
    at: datetime
    replayed_at: datetime | None = None

    @property
    def partition(self) -> str:
        return DEAD_LETTERS

    @property
    def key(self) -> str:
        return self.id


DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, kw_only=True)
class Decision(Entry):
    """One line of the audit: what was decided about which things, and why.

    ``subjects`` are the run, file path, version ("model:3"), batch or deployment it is about;
    ``outcome`` is done, nothing (with the reason why not), rejected, failed or alarm.
    """

    KIND: ClassVar[str] = "decision"
    pipeline: str
    id: str
    at: datetime
    what: str
    outcome: str
    reason: str
    signal: str = ""
    subjects: tuple[str, ...] = ()
    by: str = ""

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True, kw_only=True)
class Batch(Entry):
    """A landing batch. ``status``: open, closing, closed, empty, accepted, rejected, failed or carried.

    While it is open its files are :class:`BatchFile` entries; once closed ``files`` lists them.
    ``group`` is the folder of a batch that a marker closes, else empty. A failed batch is prepared
    again with the next run; a carried one had too few rows and its files went on to the next batch.
    ``carried``: files came from such a one.
    """

    KIND: ClassVar[str] = "batch"
    pipeline: str
    id: str
    status: str
    opened_at: datetime
    group: str = ""
    carried: bool = False
    closed_at: datetime | None = None
    files: tuple[LandedFile, ...] = ()
    run: str = ""
    reason: str = ""

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.id


def path_key(path: str) -> str:
    """The key of an entry about a lake path: the path, cut and made unique when it is too long for a key."""
    return path if len(path) <= 400 else f"{path[:300]}~{hashlib.sha256(path.encode()).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class BatchFile(Entry):
    """A file's place in an open batch."""

    KIND: ClassVar[str] = "batchfile"
    batch: str
    file: LandedFile

    @property
    def partition(self) -> str:
        return self.batch

    @property
    def key(self) -> str:
        return path_key(self.file.path)


@dataclass(frozen=True, kw_only=True)
class Landed(Entry):
    """The newest version of a landed file that was put into a batch."""

    KIND: ClassVar[str] = "landed"
    pipeline: str
    path: str
    file_etag: str
    batch: str
    at: datetime

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return path_key(self.path)


@dataclass(frozen=True)
class Step:
    """One entry of a run's story."""

    stage: str
    status: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Run(Entry):
    """One pass of a pipeline. ``cause``: landing, schedule, drift or hand.

    ``stage``: features, training, evaluation, gate, rollout. ``status``: running, waiting,
    succeeded (its version became champion), kept (the champion stayed), rejected (the batch or the
    version was turned down), failed, superseded, rolled_back.
    """

    KIND: ClassVar[str] = "run"
    pipeline: str
    id: str
    cause: str
    stage: str
    status: str
    created_at: datetime
    updated_at: datetime
    reason: str = ""
    batches: tuple[str, ...] = ()
    features: str = ""
    features_version: int | None = None
    attempt: int = 1
    job: str = ""
    version: str = ""
    steps: tuple[Step, ...] = ()

    TERMINAL: ClassVar[frozenset[str]] = frozenset(
        {"succeeded", "kept", "rejected", "failed", "superseded", "rolled_back"}
    )

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.id

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to this run by itself."""
        return self.status in self.TERMINAL


@dataclass(frozen=True, kw_only=True)
class Version(Entry):
    """What the loop knows of a registered model version.

    ``status``: registered, waiting (for a rollout to end), evaluating, awaiting_approval, rejected,
    kept_out, superseded, rolling_out, champion, retired, rolled_back. ``features`` is the lake folder of the
    run's prepared features. ``approved_at`` is when a person let it roll out, and ``approved_by`` who: measured once
    more, it waits for nobody. ``signature`` are the columns that it takes, as the registry has them; None in entries of
    a time when that was not kept.
    """

    KIND: ClassVar[str] = "version"
    pipeline: str
    version: str
    status: str
    registered_at: datetime
    run: str = ""
    features: str = ""
    job: str = ""
    evaluation: Evaluation | None = None
    verdict: Verdict | None = None
    approved_at: datetime | None = None
    approved_by: str = ""
    signature: tuple[SignatureColumn, ...] | None = None

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.version


@dataclass(frozen=True, kw_only=True)
class RolloutState(Entry):
    """Traffic on its way from the deployment of ``champion`` (a version, empty when there is none) to
    ``challenger``'s; its moves are in :mod:`shared.domain.rollout`. ``cause``: gate, approval, rollback or pin.
    ``step`` is -1 while the challenger gets copies of ``mirror`` percent of the requests and no traffic.
    ``wake`` counts the moves, ``asked`` how often the present split was asked for. ``asked_at`` is when a person asked
    for the rollback or gave the approval: when the rollout succeeds, it moves a pin that is older.
    """

    KIND: ClassVar[str] = "rollout"
    pipeline: str
    id: str
    endpoint: str
    challenger: str
    champion: str
    phase: str
    started_at: datetime
    steps: tuple[int, ...] = (100,)
    mirror: int = 0
    bake: timedelta = timedelta(0)
    cause: str = "gate"
    step: int = 0
    asked: int = 0
    asked_at: datetime | None = None
    wake: int = 0
    step_since: datetime | None = None
    next_at: datetime | None = None
    reason: str = ""
    run: str = ""

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True, kw_only=True)
class DriftCheck(Entry):
    """The outcome of one drift window. ``status``: none, drift, hurt (performance, without drift), too_few_rows or
    no_reference.

    ``performance`` is estimated without labels, ``realised`` measured with those that have landed; None where that
    cannot be done. ``retrain``: this check calls for retraining.
    """

    KIND: ClassVar[str] = "drift"
    pipeline: str
    id: str
    at: datetime
    status: str
    rows: int
    version: str
    columns: dict[str, dict[str, float]] = field(default_factory=dict)
    performance: Estimate | None = None
    realised: Realised | None = None
    retrain: bool = False
    drifted: tuple[str, ...] = ()
    reason: str = ""

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True, kw_only=True)
class ScoredFile(Entry):
    """A file of the lake that batch scoring was let write, first for this pipeline."""

    KIND: ClassVar[str] = "scoredfile"
    path: str
    pipeline: str

    @property
    def partition(self) -> str:
        return path_key(self.path)

    @property
    def key(self) -> str:
        return "scored"


@dataclass(frozen=True, kw_only=True)
class Definition(Entry):
    """A pipeline's definition, as a record, and its features.sql as they were ``since`` then, without a fault."""

    KIND: ClassVar[str] = "definition"
    pipeline: str
    definition: dict[str, Any]
    sql: str
    since: datetime

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return "definition"


@dataclass(frozen=True, kw_only=True)
class Look(Entry):
    """How far reconcile has come where it looks at some of many at a time; empty: it begins anew.

    ``files`` is where the next page of the landing folder begins, ``batches`` the last batch that was looked at.
    ``pipelines``, in the entry of :data:`~shared.decisions.NOWHERE`, is the last pipeline.
    """

    KIND: ClassVar[str] = "look"
    pipeline: str
    files: str = ""
    batches: str = ""
    pipelines: str = ""

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return "look"


@dataclass(frozen=True, kw_only=True)
class PipelineState(Entry):
    """Where a pipeline stands now: one entry each, so that status costs one read a pipeline.

    It is also the lock of the loop: ``preparing`` is the one run whose features are being made and
    ``to_prepare`` those after it, ``training`` the one run that may train and ``waiting`` the newest
    of those that wait, ``rollout`` the one rollout. ``open_batches`` maps a group to its open batch;
    ``closed_batches`` have no run of their own yet.

    And it is the list of what is under way, so that nobody has to read all that ever was: ``active_runs``,
    ``open_versions`` (registered, evaluating or waiting) and ``active_rollouts`` (with those that keep the
    previous deployment warm). ``spendings`` is what runs that ended lately used. ``batches`` and ``rollouts``
    count what was begun. ``frozen_at``, ``asked_at`` (to pin, unpin or roll back) and ``approved_at`` are when the
    newest request of its kind was accepted. ``rollback`` is the last request to roll back and what it is about: when
    it comes again, it is about the same. ``serving`` says in which form the champion answers, and why.
    ``recent_drift`` tells of the last checks which called for retraining; ``estimated`` and ``realised`` are the
    performance that the last one found.
    """

    KIND: ClassVar[str] = "state"
    pipeline: str
    champion: str = ""
    previous: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    serving: str = ""
    pinned: str = ""
    frozen: bool = False
    frozen_at: datetime | None = None
    asked_at: datetime | None = None
    approved_at: datetime | None = None
    open_batches: dict[str, str] = field(default_factory=dict)
    closed_batches: tuple[str, ...] = ()
    batches: int = 0
    preparing: str = ""
    to_prepare: tuple[str, ...] = ()
    training: str = ""
    waiting: str = ""
    rollout: str = ""
    rollouts: int = 0
    rollback: tuple[str, ...] = ()
    traffic: dict[str, int] = field(default_factory=dict)
    mirror: dict[str, int] = field(default_factory=dict)
    active_runs: tuple[str, ...] = ()
    open_versions: tuple[str, ...] = ()
    active_rollouts: tuple[str, ...] = ()
    last_run: str = ""
    last_landed_at: datetime | None = None
    missing_since: datetime | None = None
    drift_status: str = "unknown"
    drift_at: datetime | None = None
    drift_counted_at: datetime | None = None
    recent_drift: tuple[bool, ...] = ()
    estimated: Estimate | None = None
    realised: Realised | None = None
    last_drift_retraining_at: datetime | None = None
    retrainings: tuple[datetime, ...] = ()
    spendings: tuple[Spending, ...] = ()

    @property
    def partition(self) -> str:
        return self.pipeline

    @property
    def key(self) -> str:
        return "state"
