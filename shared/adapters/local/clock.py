"""The system's clock."""

from __future__ import annotations

from shared.adapters.system_clock import SystemClock

__all__ = ["SystemClock"]
