"""`landfall up`: the loop on this machine until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading

from landfall.session import host_of, open_loop
from landfall.show import console


def serve(pace: float | None, verbose: bool) -> None:
    """Run the host until SIGINT or SIGTERM; work in hand is finished first."""
    logging.getLogger().setLevel(logging.DEBUG if verbose else logging.WARNING)
    for noisy in ("watchfiles", "asyncio", "urllib3", "alembic", "mlflow", "git", "httpcore", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    loop = open_loop(pace)
    settings = loop.settings
    host = host_of(loop, settings.port)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    host.start()
    lake = settings.home / "lake"
    console.print(f"[bold]Landfall is up[/] at {host.url}, pace {settings.pace:g}\n")
    for folder in loop.catalog.all():
        place = lake / folder.pipeline.landing.path
        place.mkdir(parents=True, exist_ok=True)
        console.print(f"  {folder.pipeline.name:<24} drop files into {place}", soft_wrap=True)
    for name, faults in loop.catalog.faults().items():
        console.print(f"  [red]{name:<24} {len(faults)} faults, see landfall check[/]")
    console.print(
        f"\n  score   curl -H 'x-functions-key: KEY' {host.url}/api/pipelines/NAME/score -d @rows.json"
        f"\n  status  landfall status, or landfall page for a browser: {host.url}/api/page"
        f"\n  KEY     is function in {settings.home / 'keys.json'}\n\nCtrl-C stops it; nothing is lost.",
        soft_wrap=True,
    )
    stop.wait()
    console.print("stopping: work in hand is finished")
    host.stop()
    loop.predictions.close()
