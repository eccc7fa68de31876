"""A container of the lake's storage account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from landfall.setup.estate import STORAGE, Estate


@dataclass(frozen=True)
class Container:
    """A container that nobody reads without a token."""

    estate: Estate
    name: str
    kind = "container"

    def desired(self) -> dict[str, Any]:
        return {"publicAccess": "None"}

    def actual(self) -> dict[str, Any] | None:
        there = self.estate.arm.find(self.estate.container(self.name), STORAGE)
        return None if there is None else {"publicAccess": there["properties"].get("publicAccess") or "None"}

    def apply(self) -> None:
        self.estate.arm.put(self.estate.container(self.name), STORAGE, {"properties": self.desired()})
