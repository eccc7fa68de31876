"""The life of long work outside the app: features, training, evaluation and batch scoring jobs."""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.redaction import without_secrets


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """``state``: queued, running, completed, failed or cancelled.

    ``reason`` says in a sentence why it failed; ``log_tail`` holds the last lines that it printed.
    Both are shown and kept, so secrets are taken out of them, whoever printed those.
    """

    name: str
    state: str
    reason: str = ""
    log_tail: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", without_secrets(self.reason))
        object.__setattr__(self, "log_tail", tuple(map(without_secrets, self.log_tail)))

    @property
    def last_lines(self) -> str:
        """The end of the log for the end of a sentence; empty where there is none."""
        return f"; last lines of its log: {' | '.join(self.log_tail[-5:])}" if self.log_tail else ""

    @property
    def ended(self) -> bool:
        """True when the state will not change any more."""
        return self.state in ("completed", "failed", "cancelled")
