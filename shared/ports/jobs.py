"""The life of long work outside the app: features, training, evaluation and batch scoring jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """``state``: queued, running, completed, failed or cancelled.

    ``reason`` says in a sentence why it failed; ``log_tail`` holds the last lines that it printed.
    """

    name: str
    state: str
    reason: str = ""
    log_tail: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """True when the state will not change any more."""
        return self.state in ("completed", "failed", "cancelled")
