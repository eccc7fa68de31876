from __future__ import annotations

from tests.contracts.conftest import azure, standin

__all__ = ["azure", "standin"]
