from __future__ import annotations

from tests.contracts.conftest import azure, azurite, standin

__all__ = ["azure", "azurite", "standin"]
