"""Processes to draw patients in: as many as help, none where one will do, and none left behind."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

WORTH_A_PROCESS = 6
"""Tasks that take about as long as starting a process does."""

Map = Callable[..., Iterator[Any]]
"""As the built-in `map`: results in the order of the arguments, errors where their result would be."""


@contextlib.contextmanager
def pool(workers: int | None, *, tasks: int) -> Iterator[Map]:
    """A `map` for `tasks` tasks over up to `workers` processes (None: every core we may use).

    Processes are spawned, so that threads of the caller (torch's, a server's) cannot be copied half-way. They ignore
    Ctrl-C, which is the parent's to answer, and end when the parent is gone.
    """
    count = min(workers or _cores(), tasks // WORTH_A_PROCESS)
    if count <= 1:
        yield map
        return
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_start)
    try:
        yield executor.map
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: fewer than there are where a container or taskset says so
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
