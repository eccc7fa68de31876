"""The Functions host of a laptop: one process that serves, pumps, ticks and watches for one home."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import azure.functions as func
import psutil
import uvicorn
import uvloop

from landfall.host import functions, keys, settings_file
from landfall.host.admin import Admin
from landfall.host.event_grid import LaptopEventGrid
from landfall.host.functions import HTTP, QUEUE, HostedFunction, Invoker
from landfall.host.home_lock import HomeLock
from landfall.host.http_functions import HttpFunctions, Receive, Scope, Send
from landfall.host.lake_watcher import LakeWatcher
from landfall.host.long_lived import LongLived
from landfall.host.outbox import Outbox
from landfall.host.queue_pump import QueuePump
from landfall.host.routes import Routes
from landfall.host.timers import Timers
from landfall.host.webhook import Webhook
from shared.adapters.local.lake import FolderLake
from shared.adapters.local.signal_queue import SqliteQueue
from shared.adapters.system_clock import SystemClock
from shared.errors import ConfigurationError, Fault, LandfallError
from shared.ports.clock import Clock
from shared.settings import QUEUE as SIGNALS
from shared.settings import ROOT

log = logging.getLogger("landfall.host")

ADDRESS = "127.0.0.1"
THREADS = 32
BODY_LIMIT = 100 * 1024 * 1024
"""Bytes of a request's body, as on Azure."""
RESTART_SECONDS = 1.0
START_SECONDS = 15.0


class LaptopHost:
    """Runs ``app`` on this machine for the state in ``home``; usable in a test, a demo and ``landfall up``.

    ``port`` 0 takes any free one. ``account`` and ``container`` name the lake home/lake in its events;
    ``run_at_start`` names timer functions that run once as soon as the host is ready. After :meth:`start`
    ``url`` and ``keys`` are known.
    """

    def __init__(
        self,
        app: func.FunctionApp,
        home: Path,
        port: int,
        *,
        account: str = "landfall",
        container: str = "lake",
        clock: Clock | None = None,
        body_limit: int = BODY_LIMIT,
        run_at_start: Sequence[str] = (),
    ) -> None:
        self._functions = functions.load(app)
        self._settings = settings_file.read(ROOT / "host.json")
        self._routes = Routes((f for f in self._functions.values() if f.kind == HTTP), self._settings.route_prefix)
        self._home = home.absolute()
        self._port = port
        self._account = account
        self._container = container
        self._clock = clock or SystemClock()
        self._body_limit = body_limit
        self._run_at_start = tuple(run_at_start)
        self._lock = HomeLock(self._home)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.url = ""
        self.keys = keys.Keys(master="", function="")

    def start(self) -> None:
        """Begin; returns when requests are answered and files are watched.

        Raises :class:`~shared.errors.Refused` when another host runs this home,
        :class:`~shared.errors.ConfigurationError` when the port is taken.
        """
        self._lock.acquire()
        try:
            listener = _listen(self._port)
            self._port = listener.getsockname()[1]
            self.url = f"http://{ADDRESS}:{self._port}"
            self.keys = keys.load(self._home)
            self._ready.clear()
            self._failure = None
            self._thread = threading.Thread(target=self._main, args=(listener,), name="landfall-host", daemon=True)
            self._thread.start()
            self._ready.wait()
            if self._failure is not None:
                raise self._failure
            self._lock.note(self._port, self.url)
        except BaseException:
            self._lock.release()
            raise
        log.info("host is up at %s for %s", self.url, self._home)

    def stop(self) -> None:
        """Take nothing new, finish what is in hand, let go of the home. Nothing happens when it does not run."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._thread = None
        self._lock.release()

    def _main(self, listener: socket.socket) -> None:
        try:
            with LongLived(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(listener))
        except BaseException as error:
            if self._ready.is_set():
                log.critical("the host has stopped: %s", error, exc_info=error)
            self._failure = error
        finally:
            listener.close()
            self._ready.set()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        queue = SqliteQueue(self._home / "queue.db", self._clock)
        with Outbox(queue) as outbox, ThreadPoolExecutor(THREADS, "landfall-function") as pool:
            invoke = Invoker(pool, outbox.put, ROOT)
            timers = Timers(self._functions, invoke, self._home, self._clock)
            webhook = Webhook(self._functions, invoke)
            grid = LaptopEventGrid(self._home, webhook.notify, pool)
            admin = Admin(self._functions, invoke, timers, self.keys)
            lake = FolderLake(self._home / "lake", self._account, self._container)
            watcher = LakeWatcher(self._home / "lake", lake, self._clock, grid.publish)
            pumps = self._pumps(queue, invoke, pool, lambda: webhook.busy)
            http = HttpFunctions(self._routes, self.keys, invoke, self._body_limit)
            server = uvicorn.Server(
                uvicorn.Config(
                    _Application(f"/{self._settings.route_prefix}/".replace("//", "/"), http, admin.app(webhook)),
                    http="httptools",
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    log_level="warning",
                    access_log=False,
                    date_header=False,
                    server_header=False,
                    timeout_graceful_shutdown=30,
                )
            )
            watching = asyncio.Event()
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            work = [_forever("watcher", lambda: watcher.run(watching.set)), _forever("event grid", grid.run)]
            work += [_forever("timers", timers.run)] + [_forever("queue", pump.run) for pump in pumps]
            tasks = [asyncio.create_task(coroutine) for coroutine in work]
            try:
                await asyncio.wait_for(watching.wait(), START_SECONDS)
            except TimeoutError:
                raise LandfallError(
                    f"{self._home / 'lake'} cannot be watched; the log says why. "
                    "On Linux fs.inotify.max_user_watches may be too small"
                ) from None
            while not server.started:
                await asyncio.sleep(0.005)
            self._ready.set()
            for name in self._run_at_start:
                tasks.append(asyncio.create_task(_once(timers, self._functions[name])))
            await self._stopping.wait()

            server.should_exit = True
            await serving
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            watcher.flush()
            await grid.finish()
            await admin.finish()
            for pump in pumps:
                await pump.finish()
        queue.close()

    def _pumps(
        self,
        queue: SqliteQueue,
        invoke: Callable[[HostedFunction, Any], Awaitable[Any]],
        pool: ThreadPoolExecutor,
        busy: Callable[[], bool],
    ) -> list[QueuePump]:
        by_queue = {f.trigger["queueName"]: f for f in self._functions.values() if f.kind == QUEUE}
        for name in by_queue.keys() - {SIGNALS, f"{SIGNALS}-poison"}:
            raise ValueError(f"function {by_queue[name].name} reads the queue {name}; a laptop has {SIGNALS} only")
        if SIGNALS not in by_queue:
            return []
        poison = by_queue.get(f"{SIGNALS}-poison")
        if poison is None:
            raise ValueError(f"no function reads the queue {SIGNALS}-poison: what fails at every attempt would be lost")
        return [QueuePump(queue, self._clock, self._settings, by_queue[SIGNALS], poison, invoke, pool, busy)]


class _Application:
    """HTTP functions below the route prefix, the host's own addresses elsewhere."""

    def __init__(
        self, prefix: str, functions: HttpFunctions, own: Callable[[Scope, Receive, Send], Awaitable[None]]
    ) -> None:
        self._prefix = prefix
        self._functions = functions
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._functions if scope["path"].startswith(self._prefix) else self._own
        await handler(scope, receive, send)


async def _forever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Keep a part of the host going: one that breaks is logged and begun again."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("part=%s broke; it begins again in %g s", name, RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)


async def _once(timers: Timers, function: HostedFunction) -> None:
    # The invoker has logged a failure; the timer comes again at its own time.
    await asyncio.gather(timers.tick(function), return_exceptions=True)


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only for sockets that name their protocol.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            what, cure = f"port {port} is taken by {_owner(port)}", "Stop that, or set another port (0: any free one)."
        elif error.errno == errno.EACCES:
            what, cure = f"port {port} is not for everybody", "Set a port above 1023."
        else:
            raise
        raise ConfigurationError([Fault("LANDFALL_PORT", what, cure)]) from error
    return listener


def _owner(port: int) -> str:
    """Which process listens on ``port``, as far as this user may know."""
    try:
        pids = [c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
        pid = next((pid for pid in pids if pid), None)
        if pid:
            return f"process {pid} ({' '.join(psutil.Process(pid).cmdline())[:80]})"
    except psutil.Error:
        pass
    return "another process"
