"""A stand-in that plays a whole subscription: what setup and doctor look at beside what the app itself calls."""

from __future__ import annotations

from pathlib import Path

from tests.standin.blobs import Storage
from tests.standin.resource_manager import ResourceManager
from tests.standin.standin import StandIn
from tests.standin.synapse_roles import SynapseRoles


class Subscription(StandIn):
    """``arm`` has the resources of the subscription, ``roles`` those that the Synapse workspace gives."""

    def __init__(self, folder: Path, storage: Storage | None = None) -> None:
        super().__init__(folder, storage)
        self.arm = ResourceManager(self.ml)
        of_host = {pattern.pattern: (pattern, handler) for pattern, handler in self._services}
        pattern, rest = next(found for key, found in of_host.items() if "azuresynapse" in key)
        self.roles = SynapseRoles(rest)
        of_host[pattern.pattern] = (pattern, self.roles)
        pattern, _ = next(found for key, found in of_host.items() if "management" in key)
        of_host[pattern.pattern] = (pattern, self.arm)
        self._services = list(of_host.values())
