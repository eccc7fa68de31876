"""What every command works with: the loop, and a host that acts on what a command asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from landfall.host import LaptopHost, running
from shared import bootstrap, settings
from shared.errors import ConfigurationError, Fault
from shared.loop import Loop

EMBEDDED_PACE = 60.0
"""A loop that runs only as long as one command waits 60 times shorter: a bake time of 10 minutes is 10 seconds."""


def open_loop(pace: float | None = None) -> Loop:
    """The loop of this machine's settings; ``pace`` overrides the one that the environment names."""
    loaded = settings.load()
    loop = bootstrap.build(loaded if pace is None else dataclasses.replace(loaded, pace=pace))
    bootstrap.use(loop)
    return loop


@contextmanager
def working(pace: float = EMBEDDED_PACE) -> Iterator[tuple[Loop, bool]]:
    """The loop with somebody who works on it: the host that runs this home, else one for the time being.

    Yields the loop and whether the host is our own (then it runs at ``pace``). Where the signals are in a storage
    queue, somebody else has the host: on Azure, or func start.
    """
    loaded = settings.load()
    if (loaded.backend, loaded.queue) != ("local", "embedded") or running(loaded.home):
        loop = open_loop()
        try:
            yield loop, False
        finally:
            loop.predictions.close()
        return
    loop = open_loop(max(pace, loaded.pace))
    host = host_of(loop, 0)
    host.start()
    try:
        yield loop, True
    finally:
        host.stop()
        loop.predictions.close()


def host_of(loop: Loop, port: int) -> LaptopHost:
    """The laptop's host for a loop, not started. Raises ConfigurationError when the loop's queue is none of its own."""
    settings = loop.settings
    if (settings.backend, settings.queue) != ("local", "embedded"):
        raise ConfigurationError(
            [
                Fault(
                    "LANDFALL_QUEUE" if settings.backend == "local" else "LANDFALL_BACKEND",
                    "the signals are in a storage queue, which the laptop's host does not read",
                    "Run the app with func start, or leave it unset.",
                )
            ]
        )
    return LaptopHost(
        fresh_app(),
        settings.home,
        port,
        account=settings.account,
        container=settings.container,
        run_at_start=("timer_reconcile",),
    )


def fresh_app():  # type: ignore[no-untyped-def]
    """The function app, as a new module: its functions can be listed only once."""
    import importlib
    import sys

    for name in [m for m in sys.modules if m == "function_app" or m.startswith("functions.")]:
        del sys.modules[name]
    return importlib.import_module("function_app").app
