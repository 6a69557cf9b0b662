"""Processes to draw patients in: as many as help, none where one will do, and none left behind."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any

WORTH_A_PROCESS = 6
"""Tasks that take about as long as starting a process does."""


@contextlib.contextmanager
def pool(workers: int | None, *, tasks: int) -> Iterator[Executor]:
    """An executor for `tasks` tasks on up to `workers` processes (None: every core we may use).

    Processes are spawned, so that threads of the caller (torch's, a server's) cannot be copied half-way. They ignore
    Ctrl-C, which is the parent's to answer, and end when the parent is gone.
    """
    count = min(workers or len(os.sched_getaffinity(0)), tasks // WORTH_A_PROCESS)
    if count <= 1:
        yield Inline()
        return
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_start)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class Inline(Executor):
    """Does each task when it is asked for, in this process."""

    def map(self, fn: Any, *iterables: Any, timeout: float | None = None, chunksize: int = 1) -> Iterator[Any]:
        return map(fn, *iterables)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
