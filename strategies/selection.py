"""Who is asked in a round: a function of the seed, the round and what is known of the hospitals, nothing else.

A resumed run therefore asks the same hospitals as the undisturbed one: what is known of them (`Seen`) is saved with
every checkpoint.
"""

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from strategies.attendance import Seen
from strategies.errors import PartError


class Selection(Protocol):
    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        """Choose among the available hospitals (sorted by name); at least `quorum` of them where there are so many."""


@dataclass(frozen=True)
class All:
    """Everybody who is there."""

    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        return tuple(available)


@dataclass(frozen=True)
class Uniform:
    """A fixed share, drawn evenly without replacement: ⌈fraction · n⌉ of n.

    Source: McMahan et al. 2017, alg. 1 (its C).
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        share("uniform", fraction=self.fraction)

    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        return drawn(available, count(self.fraction, available, quorum), seed, round)


@dataclass(frozen=True)
class Dynamic:
    """A share between `low` and `high`, larger the better the federation does at the moment.

        fraction = low + (high − low) · presence · evenness · room

        presence   hospitals there / hospitals known
        evenness   median / longest time of local work, among those there
        room       share of those there that report at least `memory_mb` free (0: not looked at)

    One slow hospital makes all others wait, so uneven times ask for fewer. Hospitals without room are drawn only
    where the others do not suffice. What is not known, or is no time, counts as good. Drawn evenly without
    replacement.
    """

    low: float = 0.3
    high: float = 0.8
    memory_mb: float = 0.0

    def __post_init__(self) -> None:
        share("dynamic", low=self.low, high=self.high)
        if self.low > self.high:
            raise PartError(f"selection dynamic: low ≤ high is needed, got {self.low} > {self.high}")

    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        roomy = [name for name in available if self._has_room(seen.get(name, Seen()))]
        wanted = count(self.fraction(available, len(roomy), seen), available, quorum)
        chosen = drawn(roomy, min(wanted, len(roomy)), seed, round)
        rest = [name for name in available if name not in roomy]
        return tuple(sorted((*chosen, *drawn(rest, wanted - len(chosen), seed, round))))

    def fraction(self, available: Sequence[str], roomy: int, seen: Mapping[str, Seen]) -> float:
        """The share that is asked, in [low, high]."""
        if not available:
            return self.low
        presence = len(available) / len(set(seen) | set(available))
        seconds = [seen[name].seconds for name in available if name in seen and 0 < seen[name].seconds < math.inf]
        evenness = statistics.median(seconds) / max(seconds) if seconds else 1.0
        return self.low + (self.high - self.low) * presence * evenness * roomy / len(available)

    def _has_room(self, row: Seen) -> bool:
        return row.memory_mb is None or row.memory_mb >= self.memory_mb


@dataclass(frozen=True)
class RoundRobin:
    """A fixed share in turn: those who were asked longest ago; among equals the less often asked, then a drawn order.

    Everybody is asked equally often, up to one, where all are always there.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        share("round_robin", fraction=self.fraction)

    def select(
        self, available: Sequence[str], *, seed: int, round: int, seen: Mapping[str, Seen], quorum: int
    ) -> tuple[str, ...]:
        order = {name: place for place, name in enumerate(permuted(available, seed, 0))}
        rows = {name: seen.get(name, Seen()) for name in available}
        waiting = sorted(available, key=lambda name: (rows[name].last_round, rows[name].asked, order[name]))
        return tuple(sorted(waiting[: count(self.fraction, available, quorum)]))


def count(fraction: float, available: Sequence[str], quorum: int) -> int:
    """⌈fraction · n⌉, at least the quorum, at most all. A hair less than a whole number is that number."""
    return min(len(available), max(quorum, math.ceil(fraction * len(available) - 1e-9)))


def permuted(names: Sequence[str], seed: int, round: int) -> list[str]:
    """The names in an order that depends on seed, round and names alone."""
    digest = hashlib.sha256(f"{seed}/selection/{round}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(names))
    return [sorted(names)[place] for place in order]


def drawn(names: Sequence[str], number: int, seed: int, round: int) -> tuple[str, ...]:
    """So many of the names, evenly without replacement, sorted."""
    return tuple(sorted(permuted(names, seed, round)[:number]))


def share(part: str, **settings: float) -> None:
    """Refuse settings outside (0, 1], by name."""
    for name, value in settings.items():
        if not 0 < value <= 1:
            raise PartError(f"selection {part}: {name} is in (0, 1], got {value}")
