"""CPU seconds and memory of everything that this process starts, while something is done."""

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

INTERVAL_S = 0.1


@dataclass
class Usage:
    """What all processes started meanwhile used together; complete once the watch is over."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """User and system time."""
    peak_mb: float = 0.0
    """Largest sum of resident sizes at one moment; pages that processes share count once for each."""
    peak_processes: int = 0
    """How many were alive at that moment."""


@dataclass
class _Watch:
    """Samples the tree below this process. Who was seen once is followed even after its parent has ended."""

    usage: Usage
    seen: dict[psutil.Process, float] = field(default_factory=dict)
    """CPU seconds by process."""
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(INTERVAL_S):
            self.sample()

    def sample(self) -> None:
        sizes = [size for process in self._alive() if (size := self._read(process))]
        if (total := sum(sizes) / 1e6) > self.usage.peak_mb:
            self.usage.peak_mb, self.usage.peak_processes = total, len(sizes)

    def _alive(self) -> set[psutil.Process]:
        running = {process.pid: process for process in psutil.process_iter()}
        offspring: dict[int, list[int]] = {}
        for pid, process in running.items():
            offspring.setdefault(_parent(process), []).append(pid)
        found = {process.pid for process in self.seen if running.get(process.pid) == process}
        coming = [os.getpid(), *found]
        while coming:
            new = set(offspring.get(coming.pop(), ())) - found
            found |= new
            coming += new
        return {running[pid] for pid in found}

    def _read(self, process: psutil.Process) -> int:
        try:
            with process.oneshot():
                spent, size = process.cpu_times(), int(process.memory_info().rss)
        except psutil.Error:
            return 0
        self.seen[process] = spent.user + spent.system
        return size


@contextmanager
def watched() -> Iterator[Usage]:
    """Watch every process that is started inside, and its offspring; not this one."""
    watch, before, began = _Watch(Usage()), _waited_for(), time.perf_counter()
    sampler = threading.Thread(target=watch.run, daemon=True)
    sampler.start()
    try:
        yield watch.usage
    finally:
        watch.over.set()
        sampler.join()
        watch.usage.wall_s = time.perf_counter() - began
        # Samples miss the last moments of each process; the kernel's sum misses those nobody waited for.
        watch.usage.cpu_s = max(sum(watch.seen.values()), _waited_for() - before)


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return -1


def _waited_for() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
