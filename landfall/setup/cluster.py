"""The compute cluster that pipelines train on: no node while nothing runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from landfall.setup.estate import MACHINE_LEARNING, Estate
from shared.adapters.azure.failures import translated
from shared.errors import Missing

if TYPE_CHECKING:
    from azure.ai.ml.entities import AmlCompute

NODES, IDLE_SECONDS = 4, 300
SIZE = "Standard_DS3_v2"


@dataclass(frozen=True)
class Cluster:
    """From 0 to 4 nodes, which go after 300 s without work.

    One that is new has :data:`SIZE` and an identity of its own. A present one keeps its size, which cannot be
    changed, its identity and its network.
    """

    estate: Estate
    name: str
    kind = "compute cluster"

    def desired(self) -> dict[str, Any]:
        return {"min_instances": 0, "max_instances": NODES, "idle_time_before_scale_down": IDLE_SECONDS}

    def actual(self) -> dict[str, Any] | None:
        there = self._there()
        if there is None:
            return None
        return {
            "min_instances": there.min_instances,
            "max_instances": there.max_instances,
            "idle_time_before_scale_down": int(float(there.idle_time_before_scale_down or 0)),
        }

    def apply(self) -> None:
        if self._there() is None:
            self._make()
            return
        # The client would send the whole cluster, and loses its subnet on the way.
        idle = f"PT{IDLE_SECONDS}S"
        scale = {"minNodeCount": 0, "maxNodeCount": NODES, "nodeIdleTimeBeforeScaleDown": idle}
        path = f"{self.estate.workspace.path}/computes/{self.name}"
        self.estate.arm.patch(path, MACHINE_LEARNING, {"properties": {"properties": {"scaleSettings": scale}}})

    def _make(self) -> None:
        from azure.ai.ml.entities import AmlCompute, IdentityConfiguration

        cluster = AmlCompute(
            name=self.name,
            location=self.estate.region,
            size=SIZE,
            identity=IdentityConfiguration(type="system_assigned"),
            **self.desired(),
        )
        with translated(f"make compute cluster {self.name}"):
            self._compute.begin_create_or_update(cluster).result()

    def _there(self) -> AmlCompute | None:
        try:
            with translated(f"look up compute cluster {self.name}"):
                return cast("AmlCompute", self._compute.get(self.name))
        except Missing:
            return None

    @cached_property
    def _compute(self) -> Any:
        return self.estate.workspace.client.compute
