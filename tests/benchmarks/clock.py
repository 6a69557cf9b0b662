"""Time contenders side by side: turn and turn about, several times, medians.

What else the machine does then hits all of them alike; the order is reversed every other time, so that a drift does
too.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """Seconds that one call took: on the wall, and of this process's CPU time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Series:
    """The same thing, several times."""

    times: tuple[Took, ...]

    @property
    def wall(self) -> float:
        """Median, in seconds."""
        return statistics.median(took.wall for took in self.times)

    @property
    def cpu(self) -> float:
        """Median, in seconds."""
        return statistics.median(took.cpu for took in self.times)

    @property
    def spread(self) -> str:
        """Smallest to largest wall time."""
        walls = [took.wall for took in self.times]
        return f"{min(walls):.3g}–{max(walls):.3g} s"


def timed(call: Callable[[], object]) -> Took:
    """Time one call; the rubbish of the one before is not charged to it."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(contenders: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, Series]:
    """Time every contender `repeats` times, in alternating order."""
    taken: dict[str, list[Took]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in sorted(contenders, key=list(contenders).index, reverse=bool(repeat % 2)):
            taken[name].append(timed(contenders[name]))
    return {name: Series(tuple(times)) for name, times in taken.items()}
