"""Doing one thing many times at the same moment, in threads and in processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Literal

How = Literal["threads", "processes"]

_barrier: Any = None


def race(how: How, count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of ``count`` calls ``work(*arguments, index)`` that all begin at once.

    For processes, ``work`` is a function of a module and the arguments can be pickled.
    """
    pool: Executor
    if how == "threads":
        barrier = threading.Barrier(count)
        pool = ThreadPoolExecutor(count, initializer=_start_with, initargs=(barrier,))
    else:
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(count, spawn, initializer=_start_with, initargs=(spawn.Barrier(count),))
    with pool:
        return [future.result(timeout=60) for future in [pool.submit(_run, work, arguments, i) for i in range(count)]]


def attempt(error: type[Exception], work: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
    """True when the call succeeds, False when it raises ``error``."""
    try:
        work(*arguments, **named)
    except error:
        return False
    return True


def kill_in_the_middle(work: Callable[..., None], *arguments: Any, after: int) -> list[Any]:
    """Run ``work(*arguments, acknowledge)`` in a process, kill it after ``after`` acknowledgements; all of them."""
    spawn = multiprocessing.get_context("spawn")
    receiving, sending = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_acknowledging, args=(work, arguments, sending))
    process.start()
    sending.close()
    acknowledged = [receiving.recv() for _ in range(after)]
    process.kill()
    process.join()
    while True:
        try:
            acknowledged.append(receiving.recv())
        except EOFError:
            return acknowledged


def _acknowledging(work: Callable[..., None], arguments: tuple[Any, ...], sending: Any) -> None:
    work(*arguments, sending.send)


def _start_with(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _run(work: Callable[..., Any], arguments: tuple[Any, ...], index: int) -> Any:
    _barrier.wait(timeout=60)
    return work(*arguments, index)
