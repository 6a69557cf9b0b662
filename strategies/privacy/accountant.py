"""ε from facts, on read.

In:  events (what was really released) and δ.
Out: the ε for which everything together is (ε, δ)-differentially private, for the unit of the events.

Two accountants, for two questions. PLD (privacy loss distributions, discretised to 1e-3, rounded to the safe side)
answers for a plan that was fixed beforehand. The RDP filter answers for runs chosen after seeing earlier ones: Rényi
divergences of one order, fixed beforehand, add up whoever chose them, and stopping when the sum would pass a limit is
valid (Feldman & Zrnic 2021, "Individual privacy accounting via a Rényi filter", theorem 4.3).

Hospitals are not sampled, so nothing is amplified at site level. Events with a fixed seed, or without clipping, are
not private: ε is infinite.

Sources: Koskela, Jälkö, Honkela 2020 (PLD), computed by google/differential-privacy's dp-accounting; Mironov, Talwar,
Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism", eq. 6 (integer orders); Canonne, Kamath,
Steinke 2020, "The discrete Gaussian for differential privacy", proposition 12 (RDP to ε).

dp-accounting takes a second and 50 MB to import, so it is imported where something is counted: runs that promise
nothing come by here, too.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scipy.special import gammaln, logsumexp

from strategies.errors import PartError
from strategies.privacy.events import SYSTEM, DpSgd, Event

INTERVAL = 1e-3
"""Discretisation of privacy losses; rounded up, so that a coarser grid is never too hopeful."""

ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 384, 512)
"""Rényi orders that a filter may fix. Integers: their divergence is a finite sum."""

FINE_ORDERS = (*(order / 10 for order in range(20, 110)), *ORDERS[9:])
"""Orders for the best of many. None below 2: the series for those does not always converge (rate 0.5, noise 4)."""

CALIBRATION = 1e-4
"""Relative precision of a calibrated noise multiplier; rounded to the safe side."""

LARGEST_NOISE = math.log(2.0**20)
TINY = 1e-12
"""Stands for ε = 0 where a logarithm is taken."""


@dataclass(frozen=True)
class Mechanism:
    """A Gaussian of sensitivity 1 on a Poisson sample: all that matters for ε."""

    noise_multiplier: float
    sample_rate: float = 1.0


def mechanism(event: Event) -> tuple[Mechanism, int]:
    """What an event did, and how many times."""
    if isinstance(event, DpSgd):
        return Mechanism(event.noise_multiplier, event.sample_rate), event.steps
    return Mechanism(event.noise_multiplier), 1


def is_private(event: Event) -> bool:
    """Whether an event hides anything: real randomness, and noise in proportion to a bounded contribution."""
    return event.randomness == SYSTEM and event.noise_multiplier > 0.0


def epsilon(events: Iterable[Event], delta: float) -> float:
    """ε of everything together, by PLD; valid where the events were planned beforehand.

    Events of one fixed split touch disjoint patients where their populations differ: then the largest ε counts, not
    the sum (parallel composition).
    """
    return _worst_population(events, delta, lambda parts: _pld(parts).get_epsilon_for_delta(delta))


def epsilon_rdp(events: Iterable[Event], delta: float) -> float:
    """ε of everything together, by RDP at the best of many orders: a second opinion, never below PLD's by much."""
    return _worst_population(events, delta, lambda parts: _rdp_epsilon(parts, delta))


@dataclass(frozen=True)
class RdpFilter:
    """Composition of releases that were chosen one after the other: the divergences of one fixed order add up.

    `order` must be fixed before the first release and never changed.
    """

    order: int
    delta: float

    def __post_init__(self) -> None:
        if self.order < 2:
            raise PartError(f"filter: order is {self.order}; an integer of at least 2 is needed")
        _check_delta(self.delta)

    def spent(self, events: Iterable[Event]) -> float:
        """ε of everything together; 0 for nothing."""
        return _worst_population(events, self.delta, self._epsilon)

    def _epsilon(self, parts: "Parts") -> float:
        divergence = math.fsum(count * renyi(what, self.order) for what, count in parts)
        return max(0.0, divergence + conversion(self.order, self.delta))


def filter_for(cap: float, delta: float) -> RdpFilter:
    """The filter whose order lets the most Gaussian releases fit under `cap`."""
    _check_delta(delta)
    if not cap > 0.0:
        raise PartError(f"epsilon_cap is {cap}; a number > 0 is needed")
    return RdpFilter(max(ORDERS, key=lambda order: (cap - conversion(order, delta)) / order), delta)


def renyi(what: Mechanism, order: int) -> float:
    """Rényi divergence of one application, at an integer order ≥ 2."""
    if what.sample_rate == 1.0:
        return order / (2.0 * what.noise_multiplier**2)
    k = range(order + 1)
    terms = [_log_binomial(order, i) + _log_share(order, i, what) for i in k]
    return float(logsumexp(terms)) / (order - 1)


def conversion(order: float, delta: float) -> float:
    """What is added to a Rényi divergence to make it an ε."""
    return math.log1p(-1.0 / order) - (math.log(delta) + math.log(order)) / (order - 1.0)


def calibrate(epsilon_target: float, delta: float, events: Callable[[float], Sequence[Event]]) -> float:
    """The smallest noise multiplier with which the planned events cost at most `epsilon_target`, by PLD.

    `events(z)` gives the whole plan at noise multiplier z: all rounds and evaluation releases.
    The result is rounded to the safe side, by at most 1e-4 of it.
    """
    from scipy.optimize import brentq

    _check_delta(delta)
    _check_target(epsilon_target)
    target = math.log(epsilon_target)

    def excess(log_z: float) -> float:
        return math.log(max(epsilon(events(math.exp(log_z)), delta), TINY)) - target

    log_z = float(brentq(excess, *_bracket(excess), xtol=CALIBRATION / 4))
    while excess(log_z) > 0.0:
        log_z += CALIBRATION / 4
    return math.exp(log_z)


def gaussian_noise(epsilon_target: float, delta: float, releases: int) -> float:
    """The noise multiplier with which that many unsampled releases cost `epsilon_target`: in closed form.

    Source: Balle & Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8.
    """
    from dp_accounting import get_sigma_gaussian

    _check_delta(delta)
    _check_target(epsilon_target)
    if releases < 1:
        raise PartError(f"releases is {releases}; at least 1 is needed")
    return float(get_sigma_gaussian(epsilon_target, delta)) * math.sqrt(releases) * (1.0 + CALIBRATION)


def rounds_that_fit(fits: Callable[[int], bool], most: int) -> int:
    """The largest n ≤ `most` with fits(n); fits must not become true again once it is false."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


Parts = tuple[tuple[Mechanism, int], ...]
"""Different mechanisms with their counts, in order of first appearance."""


def _worst_population(events: Iterable[Event], delta: float, cost: Callable[[Parts], float]) -> float:
    _check_delta(delta)
    used = [event for event in events if mechanism(event)[1] > 0]
    if not all(map(is_private, used)):
        return math.inf
    return max((cost(_parts(group)) for group in populations(used)), default=0.0)


def populations(events: Sequence[Event]) -> list[list[Event]]:
    """Events by the patients they touch. One group, unless a single known split says that populations are disjoint."""
    splits = {event.split for event in events if event.population != "all"}
    names = {event.population for event in events} - {"all"}
    if len(splits) != 1 or splits == {""}:
        return [list(events)] if events else []
    return [[event for event in events if event.population in (name, "all")] for name in sorted(names)]


def _parts(events: Iterable[Event]) -> Parts:
    counts: Counter[Mechanism] = Counter()
    for what, count in map(mechanism, events):
        counts[what] += count
    return tuple(counts.items())


@lru_cache(maxsize=16)
def _pld(parts: Parts) -> Any:
    """All but the last part stays in the cache while a run goes on: each round adds to the last one's count only."""
    last = _self_composed(*parts[-1])
    return _pld(parts[:-1]).compose(last) if len(parts) > 1 else last


def _self_composed(what: Mechanism, count: int) -> Any:
    """Unsampled Gaussians compose exactly: n of them are one with noise z/√n."""
    if what.sample_rate == 1.0:
        return _one(Mechanism(what.noise_multiplier / math.sqrt(count)))
    return _one(what).self_compose(count)


@lru_cache(maxsize=64)
def _one(what: Mechanism) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=what.noise_multiplier,
        sampling_prob=what.sample_rate,
        value_discretization_interval=INTERVAL,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
    )


def _rdp_epsilon(parts: Parts, delta: float) -> float:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(list(FINE_ORDERS))
    for what, count in parts:
        gaussian = GaussianDpEvent(what.noise_multiplier)
        accountant.compose(PoissonSampledDpEvent(what.sample_rate, gaussian), count)
    return float(accountant.get_epsilon(delta))


def _log_binomial(n: int, k: int) -> float:
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _log_share(order: int, k: int, what: Mechanism) -> float:
    """Log of (1−q)^(α−k) q^k exp((k² − k) / 2σ²)."""
    absent, drawn = math.log1p(-what.sample_rate), math.log(what.sample_rate)
    return (order - k) * absent + k * drawn + (k * k - k) / (2.0 * what.noise_multiplier**2)


def _bracket(excess: Callable[[float], float]) -> tuple[float, float]:
    """Two logarithms of noise, a factor of two apart, between which the budget begins to suffice."""
    step, log_z = math.log(2.0), 0.0
    while excess(log_z) > 0.0:
        log_z += step
        if log_z > LARGEST_NOISE:
            raise PartError("no noise is enough for this budget: what the noise does not touch costs more already")
    while excess(log_z - step) <= 0.0:
        log_z -= step
    return log_z - step, log_z


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise PartError(f"delta is {delta}; a probability strictly between 0 and 1 is needed (below 1/patients)")


def _check_target(epsilon_target: float) -> None:
    if not (epsilon_target > 0.0 and math.isfinite(epsilon_target)):
        raise PartError(f"epsilon is {epsilon_target}; a finite number > 0 is needed")
