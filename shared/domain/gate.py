"""The champion/challenger gate: measured comparison in, verdict in words and numbers out."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.domain.pipelines import Gate


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """The gate's metric on the rows where ``column`` is ``value``; ``gain`` is positive when the challenger is better."""

    column: str
    value: str
    rows: int
    challenger: float
    champion: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Challenger and champion measured on the same held-out rows.

    ``challenger`` and ``champion`` map metric names to values (champion is empty when there is
    none). ``gain`` is the challenger's advantage in the gate's metric, turned so that positive is
    better, with its paired bootstrap interval; None without a champion. Latencies are the median of
    one-row calls in milliseconds, ``size_mb`` the challenger's files in megabytes. ``problems`` are
    reasons why the numbers cannot be trusted (one class only, no rows, predictions not finite).
    """

    rows: int
    challenger: dict[str, float]
    champion: dict[str, float] = field(default_factory=dict)
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    slices: tuple[SliceResult, ...] = ()
    latency_ms: float = 0.0
    champion_latency_ms: float | None = None
    size_mb: float = 0.0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of the gate, whether the challenger met it, and a sentence with the numbers."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``promote`` or keep the champion; ``summary`` is one sentence, ``rules`` tell why."""

    promote: bool
    summary: str
    rules: tuple[Rule, ...] = ()


def decide(evaluation: Evaluation, gate: Gate, *, challenger: str, champion: str | None) -> Verdict:
    """The gate's verdict on version ``challenger`` against version ``champion`` (None: no champion yet)."""
    raise NotImplementedError
