"""`landfall events forward`: a laptop's events to a Functions host that is not Landfall's own, such as func start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from landfall.host.event_grid import LaptopEventGrid
from landfall.host.lake_watcher import LakeWatcher
from landfall.show import console
from shared import settings
from shared.adapters.local.lake import FolderLake
from shared.adapters.system_clock import SystemClock

UNREACHABLE = 500
"""The answer of a host that does not answer: the event is sent again."""


def forward(url: str) -> None:
    """Watch the lake folder and the jobs of this home, and send their events to the webhook at ``url`` until Ctrl-C."""
    asyncio.run(_forward(url.rstrip("/")))


async def _forward(url: str) -> None:
    loaded = settings.load()
    lake = FolderLake(loaded.home / "lake", loaded.account, loaded.container)
    async with httpx.AsyncClient(timeout=60) as client:

        async def notify(function: str, events: Sequence[Mapping[str, Any]]) -> int:
            try:
                answer = await client.post(
                    f"{url}/runtime/webhooks/eventgrid",
                    params={"functionName": function},
                    headers={"aeg-event-type": "Notification"},
                    json=list(events),
                )
            except httpx.HTTPError as error:
                console.print(f"[yellow]{url} does not answer[/] ({type(error).__name__}); it is tried again")
                return UNREACHABLE
            for event in events:
                console.print(f"{answer.status_code}  {event['eventType']}  {event['subject']}", markup=False)
            return answer.status_code if answer.status_code < UNREACHABLE else UNREACHABLE

        with ThreadPoolExecutor(1, "landfall-spool") as pool:
            grid = LaptopEventGrid(loaded.home, notify, pool)
            ready = asyncio.Event()
            watcher = LakeWatcher(loaded.home / "lake", lake, SystemClock(), grid.publish)
            async with asyncio.TaskGroup() as group:
                group.create_task(watcher.run(ready.set))
                group.create_task(grid.run())
                await ready.wait()
                console.print(f"forwarding what happens in {loaded.home} to {url}", soft_wrap=True)
