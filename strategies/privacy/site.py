"""Site-level privacy: what one hospital's data contributed is hidden; that it took part is not.

Each update is clipped to C, weighed and added; Gaussian noise follows. Who is trusted: the coordinator, until the noise
is added. Two neighbours may be meant, and they need different noise:

    zero-out     the hospital's update is zero in every round; weights and the list of repliers stay as they are.
                 Σ wᵢ·clip(Δᵢ) with Σ wᵢ = 1 moves by at most C·max wᵢ: that is what the noise follows, for the
                 weights of those who replied, anew in each round.
    add-remove   the hospital is not there at all. The denominator W is public and fixed, raw weights are capped at
                 w_cap, the noise is constant, and nothing is renormalised: noise that followed the repliers' weights
                 would tell by its size who was there.

Every check of an update is fixed and looks at that update alone. A refused or zero update counts as zero and keeps its
weight: that is exactly the neighbour. Few hospitals are never amplified by sampling, so nothing is claimed for it.

Source: McMahan, Ramage, Talwar, Zhang 2018, "Learning differentially private recurrent language models", alg. 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from strategies.errors import PartError
from strategies.privacy import Facts
from strategies.privacy.clip import check_clip, clip_update
from strategies.privacy.events import SiteRelease, to_json
from strategies.privacy.gaussian import add_noise
from strategies.privacy.generator import FixedSeed, Generator, Randomness, SystemRandomness
from strategies.tensors import is_averaged
from strategies.types import Tensors


@dataclass(frozen=True)
class Site:
    """Clip, weigh, add noise of z·C·max wᵢ over the weights of those who replied.

    Guarantees: a sequence of releases is that many Gaussian mechanisms of noise multiplier `noise_multiplier` for the
    zero-out neighbour, under any dropouts and any public weights.
    Guarantees nothing about norms and reports beside the update: they stay with the coordinator.

    `clip`: C, the L2 bound of one update. `fixed_seed`: for simulation only; then no ε is claimed.
    """

    noise_multiplier: float
    clip: float
    fixed_seed: int | None = None
    unit = "site"
    counts_refused = True

    def __post_init__(self) -> None:
        check_noise("site", self.noise_multiplier)
        check_clip("site", self.clip)

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return clip_update(delta, self.clip)[0]

    def factor(self, factor: float) -> float:
        return factor

    def noise_sd(self, factors: Mapping[str, float]) -> float:
        """Standard deviation of the noise on the weighted mean when these replied with these raw factors."""
        return self.noise_multiplier * self.clip * max(normalised(factors).values())

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        generator, after = open_generator(self.fixed_seed, state)
        sd = self.noise_sd(factors)
        event = SiteRelease(
            noise_multiplier=self.noise_multiplier,
            adjacency="zero-out",
            clip=self.clip,
            sd=sd,
            weights=normalised(factors),
            randomness=randomness(self.fixed_seed).origin,
        )
        return add_noise(floating(mean), sd, generator), after, to_json(event)


@dataclass(frozen=True)
class SiteAddRemove:
    """Clip, cap the weight, divide by a public W, add constant noise of z·C·w_cap/W.

    Guarantees: as `Site`, for the add-remove neighbour: whether a hospital takes part is hidden in the released model
    (not in the run's roster or journal, which the coordinator keeps).

    `weight_cap` w_cap: the most that one hospital's raw weight counts. `denominator` W: public and fixed for the run;
    the sum of the capped weights that are planned for keeps updates at their usual size. Both in the unit of the
    weighting (patients for `size`).
    """

    noise_multiplier: float
    clip: float
    weight_cap: float
    denominator: float
    fixed_seed: int | None = None
    unit = "site"
    counts_refused = True

    def __post_init__(self) -> None:
        check_noise("site_add_remove", self.noise_multiplier)
        check_clip("site_add_remove", self.clip)
        for name, value in (("weight_cap", self.weight_cap), ("denominator", self.denominator)):
            if not (math.isfinite(value) and value > 0.0):
                raise PartError(f"privacy site_add_remove: {name} is {value}; a finite number > 0 is needed")

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return clip_update(delta, self.clip)[0]

    def factor(self, factor: float) -> float:
        return min(factor, self.weight_cap)

    def noise_sd(self, factors: Mapping[str, float]) -> float:
        """Standard deviation of the noise on the sum over W: the same whoever replied."""
        return self.noise_multiplier * self.clip * self.weight_cap / self.denominator

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        """Undo the mean's own denominator Σ f, divide by W instead, add the noise."""
        generator, after = open_generator(self.fixed_seed, state)
        rescale = math.fsum(factors.values()) / self.denominator
        total = {name: t * t.dtype.type(rescale) for name, t in floating(mean).items()}
        event = SiteRelease(
            noise_multiplier=self.noise_multiplier,
            adjacency="add-remove",
            clip=self.clip,
            sd=self.noise_sd(factors),
            weights={hospital: factor / self.denominator for hospital, factor in factors.items()},
            randomness=randomness(self.fixed_seed).origin,
        )
        return add_noise(total, self.noise_sd(factors), generator), after, to_json(event)


def normalised(factors: Mapping[str, float]) -> dict[str, float]:
    """Weights wᵢ = fᵢ / Σ f of those who replied."""
    total = math.fsum(factors.values())
    return {hospital: factor / total for hospital, factor in factors.items()}


def floating(tensors: Tensors) -> Tensors:
    """What may be released: integers are neither averaged nor noised, so the model keeps its own."""
    return {name: t for name, t in tensors.items() if is_averaged(t)}


def randomness(fixed_seed: int | None) -> Randomness:
    """Where the noise comes from."""
    return SystemRandomness() if fixed_seed is None else FixedSeed(fixed_seed)


def open_generator(fixed_seed: int | None, state: Facts) -> tuple[Generator, Facts]:
    """A generator for this release alone, and the state with the release counted: it is a fixed seed's address."""
    releases = int(state.get("releases", 0))
    return randomness(fixed_seed).open("site", releases), {**state, "releases": releases + 1}


def check_noise(part: str, noise_multiplier: float) -> None:
    """Refuse a noise multiplier that is no finite number > 0."""
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0.0):
        raise PartError(f"privacy {part}: noise_multiplier is {noise_multiplier}; a finite number > 0 is needed")
