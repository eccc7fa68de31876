"""A stand-in that plays a whole subscription: what setup and doctor look at beside what the app itself calls."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from pathlib import Path

from tests.standin.blobs import Storage
from tests.standin.http import Problem, Request, Response
from tests.standin.resource_manager import ResourceManager
from tests.standin.standin import StandIn
from tests.standin.storage_gate import StorageGate
from tests.standin.synapse_roles import SynapseRoles

STORAGE = re.compile(r"[a-z0-9]+\.(blob|queue|table)\.core\.windows\.net")


class Subscription(StandIn):
    """``arm`` has the resources of the subscription, ``roles`` those that the Synapse workspace gives.

    Storage, of an emulator, is open to identities with a role only. ``ahead`` is by how many seconds Azure's clock
    is ahead of ours.
    """

    def __init__(self, folder: Path, storage: Storage | None = None) -> None:
        super().__init__(folder, storage)
        self.ahead = 0.0
        self.arm = ResourceManager(self.ml)
        of_host = {pattern.pattern: (pattern, handler) for pattern, handler in self._services}
        pattern, rest = next(found for key, found in of_host.items() if "azuresynapse" in key)
        self.roles = SynapseRoles(rest)
        of_host[pattern.pattern] = (pattern, self.roles)
        pattern, _ = next(found for key, found in of_host.items() if "management" in key)
        of_host[pattern.pattern] = (pattern, self.arm)
        self._services = list(of_host.values())
        if storage:
            self._services.append((STORAGE, StorageGate(storage, self.arm)))

    def _port_of(self, host: str) -> int | None:
        return self._port if self.storage and STORAGE.fullmatch(host) else super()._port_of(host)

    def _answer(self, request: Request) -> Response:
        date = formatdate(time.time() + self.ahead, usegmt=True)
        try:
            response = super()._answer(request)
        except Problem as problem:
            problem.response.headers["date"] = date
            raise
        response.headers["date"] = date
        return response
