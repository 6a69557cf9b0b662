"""Ranges that any hospital's numbers must lie in, whatever the others have.

They are wide: any vendor, kernel, padding and patient passes; a lost rescale, a turned volume or a wrong unit does not.
The numbers themselves stand in conf/comparison. A hospital can compare itself, so that none of them leaves.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.errors import BadSetting, DataError
from data.statistics.quantities import QUANTITIES, Quantity
from data.statistics.spread import SHARES


class ImplausibleSite(DataError):
    """A hospital's data would poison what the others learn."""

    code = "implausible-site"


@dataclass(frozen=True)
class Oddity:
    """A number that is not where it should be."""

    name: str
    """By `QUANTITIES`; with `_low` or `_high` where most scans are right and some are not."""
    value: float
    low: float
    high: float
    is_fault: bool
    """Training must not begin with it; else it is worth a look."""

    @property
    def quantity(self) -> Quantity:
        return QUANTITIES[base_name(self.name)]

    @property
    def what(self) -> str:
        """Which number, what it is, what it may be."""
        quantity, some = self.quantity, "" if self.name in QUANTITIES else " in a tenth of the scans or more"
        unit = f" {quantity.unit}" if quantity.unit else ""
        return f"{quantity.words} is {self.value:.4g}{unit}{some}, plausible is {_bounds(self.low, self.high)}{unit}"


@dataclass(frozen=True)
class Limits:
    """Plausible ranges by name.

    Args:
        ranges: name → (lowest, highest), null where there is no end. Outside of it is a fault; where only a tenth of
            the scans is outside, a doubt.
        doubts: the same, of what is worth a look only.

    Raises:
        BadSetting: a name that is no quantity, or a range upside down.
    """

    ranges: Mapping[str, Sequence[float | None]]
    doubts: Mapping[str, Sequence[float | None]]

    def __post_init__(self) -> None:
        for name, ends in [*self.ranges.items(), *self.doubts.items()]:
            if name not in QUANTITIES:
                raise BadSetting(f"comparison.limits: {name!r} is no quantity; there are {', '.join(QUANTITIES)}")
            if len(ends) != 2 or _ends(ends)[0] > _ends(ends)[1]:
                raise BadSetting(f"comparison.limits: {name} is {list(ends)}; lowest and highest are needed")

    def oddities(self, numbers: Mapping[str, float]) -> list[Oddity]:
        """What is not plausible, faults first, of a hospital or of one scan. What could not be told is passed over."""
        faults = _outside(numbers, self.ranges, is_fault=True)
        odd = [*faults, *_outside(numbers, self.doubts, is_fault=False)]
        return sorted(odd, key=lambda oddity: not oddity.is_fault)


def _outside(
    numbers: Mapping[str, float], ranges: Mapping[str, Sequence[float | None]], *, is_fault: bool
) -> Iterator[Oddity]:
    for name, ends in ranges.items():
        low, high = _ends(ends)
        outside = {n: v for n in names_of(name) if (v := numbers.get(n, low)) < low or v > high}
        if name in outside:
            yield Oddity(name, outside[name], low, high, is_fault)
        else:
            yield from (Oddity(part, value, low, high, is_fault=False) for part, value in outside.items())


def names_of(name: str) -> list[str]:
    """A quantity's own name and those of its low and high end."""
    return [name + suffix for suffix in SHARES]


def base_name(name: str) -> str:
    """The quantity that a number belongs to."""
    return name if name in QUANTITIES else name.removesuffix("_low").removesuffix("_high")


def _ends(ends: Sequence[float | None]) -> tuple[float, float]:
    low, high = ends
    return -math.inf if low is None else low, math.inf if high is None else high


def _bounds(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g} or more"
    return f"{high:g} or less" if math.isinf(low) else f"{low:g} to {high:g}" if low < high else f"{low:g}"
