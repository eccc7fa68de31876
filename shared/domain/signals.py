"""Signals: what wakes the loop. Each is handled once, under its key."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.domain.records import from_record, to_record
from shared.errors import Rejected

LONGEST_KEY = 400


@dataclass(frozen=True, kw_only=True)
class Signal(ABC):
    """Something that happened. Two deliveries of one happening carry the same key."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What a second delivery of the same happening would be called, too."""

    @property
    def claim_key(self) -> str:
        """The key under which the ledger claims this signal: its kind and its own key, cut to what a ledger holds."""
        key = f"{type(self).__name__}:{self.key}"
        if len(key) <= LONGEST_KEY and key.isprintable():
            return key
        digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        return f"{''.join(c for c in key if c.isprintable())[: LONGEST_KEY - len(digest) - 1]}~{digest}"

    def to_message(self) -> str:
        """The queue message, a JSON object with ``signal`` and the fields."""
        return json.dumps({"signal": type(self).__name__, **to_record(self)}, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True)
class DataLanded(Signal):
    """A file was committed to the lake, or renamed into place.

    ``size`` is in bytes, None when the event does not say it; ``etag`` is empty when it does not.
    """

    account: str
    container: str
    path: str
    api: str
    event: str
    at: datetime
    etag: str = ""
    size: int | None = None

    @property
    def key(self) -> str:
        return f"{self.account}/{self.container}/{self.path}@{self.etag or self.event}"


@dataclass(frozen=True, kw_only=True)
class EventUnreadable(Signal):
    """An event was delivered that no signal can be made of; it is recorded, not lost.

    ``body`` is cut to 2,000 characters.
    """

    source: str
    event: str
    reason: str
    body: str = ""

    @property
    def key(self) -> str:
        return f"{self.source}/{self.event}"


@dataclass(frozen=True, kw_only=True)
class BatchDue(Signal):
    """It is time, at ``due``, to look whether a landing batch is complete."""

    pipeline: str
    batch: str
    due: datetime

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.batch}@{self.due.isoformat(timespec='microseconds')}"


@dataclass(frozen=True, kw_only=True)
class FeaturesReady(Signal):
    """The features job of a run has ended: its manifest arrived, or its state was asked."""

    pipeline: str
    run: str

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.run}"


@dataclass(frozen=True, kw_only=True)
class TrainingFinished(Signal):
    """The training job of a run has ended with ``status`` completed, failed or cancelled."""

    pipeline: str
    run: str
    status: str

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.run}:{self.status}"


@dataclass(frozen=True, kw_only=True)
class ModelRegistered(Signal):
    """A model version appeared in the registry, by a run or by hand."""

    model: str
    version: str

    @property
    def key(self) -> str:
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class EvaluationFinished(Signal):
    """The job that compares a challenger with the champion has ended."""

    pipeline: str
    version: str
    status: str
    job: str

    @property
    def key(self) -> str:
        return f"{self.job}:{self.status}"


@dataclass(frozen=True, kw_only=True)
class RolloutDue(Signal):
    """A rollout wants its next step. ``wake`` counts the steps taken."""

    pipeline: str
    rollout: str
    wake: int

    @property
    def key(self) -> str:
        return f"{self.rollout}#{self.wake}"


@dataclass(frozen=True, kw_only=True)
class DriftCheckDue(Signal):
    """A drift window of a pipeline has ended at ``slot``; with ``request`` a person wants to look now."""

    pipeline: str
    slot: datetime
    request: str = ""
    by: str = ""
    reason: str = ""

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.request}" if self.request else f"{self.pipeline}@{self.slot.isoformat()}"


@dataclass(frozen=True, kw_only=True)
class RetrainingDue(Signal):
    """A pipeline should train again. ``cause`` is schedule, drift or hand; ``slot`` names the occasion."""

    pipeline: str
    cause: str
    slot: str
    reason: str
    by: str = ""

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.cause}/{self.slot}"


@dataclass(frozen=True, kw_only=True)
class ReconcileDue(Signal):
    """It is time to compare the ledger with the world."""

    slot: datetime

    @property
    def key(self) -> str:
        return self.slot.isoformat()


@dataclass(frozen=True, kw_only=True)
class OperatorSignal(Signal):
    """Base of what a person asks for. ``request`` makes a repeated request one request.

    ``at`` is when it was accepted: of two requests the newer one wins, however late the older one is handled.
    """

    pipeline: str
    request: str
    by: str = ""
    reason: str = ""
    at: datetime | None = None

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.request}"


@dataclass(frozen=True, kw_only=True)
class RollbackRequested(OperatorSignal):
    """Put all traffic back to the previous champion, or to ``version``."""

    version: str = ""


@dataclass(frozen=True, kw_only=True)
class PinRequested(OperatorSignal):
    """Keep serving ``version`` whatever the gate says; an empty version unpins."""

    version: str = ""


@dataclass(frozen=True, kw_only=True)
class FreezeRequested(OperatorSignal):
    """Stop (``frozen``) or resume training and rollouts of a pipeline; landing is still recorded."""

    frozen: bool = True


@dataclass(frozen=True, kw_only=True)
class ApprovalGiven(OperatorSignal):
    """A person lets a version that passed the gate roll out, or turns it down."""

    version: str
    approved: bool = True


@dataclass(frozen=True, kw_only=True)
class BatchScoringRequested(OperatorSignal):
    """Score a file of the lake with the champion into ``output``. ``partition`` makes it once per partition.

    ``query`` and ``table`` are those of :class:`~shared.ports.batch_service.BatchScoringJob`.
    """

    input: str
    output: str
    partition: str = ""
    query: str = ""
    table: str = ""


SIGNALS: dict[str, type[Signal]] = {
    cls.__name__: cls
    for cls in (
        DataLanded, EventUnreadable, BatchDue, FeaturesReady, TrainingFinished, ModelRegistered, EvaluationFinished,
        RolloutDue, DriftCheckDue, RetrainingDue, ReconcileDue, RollbackRequested, PinRequested,
        FreezeRequested, ApprovalGiven, BatchScoringRequested,
    )
}  # fmt: skip


def from_message(text: str) -> Signal:
    """The signal of a queue message.

    Raises :class:`~shared.errors.Rejected` when the text is no JSON object, names no known signal,
    or lacks a field.
    """
    try:
        record: dict[str, Any] = json.loads(text)
        cls = SIGNALS[record.pop("signal")]
        return from_record(cls, record)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Rejected(f"queue message is no signal ({error!r}): {text[:200]}") from error
