"""Formulas in circulation: noise recipes met in articles, offered for comparison only.

They are added to the weighted mean of K updates like the real mechanism, and every release states the noise multiplier
that it really has, so that the table shows the ε it really gives. Without clipping (`clip: null`) one update may be of
any size, no noise hides it, and the multiplier is 0: ε is infinite.

With clip 1 and equal weights, mean noise is z = 10 whatever ε is claimed (ε 0.34 for one round, 2.94 for 50); Laplace's
scale with Gaussian draws is z = 1/ε (claimed 1: really 4.38 for one round, 54 over 50).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from strategies.errors import PartError
from strategies.privacy import Facts
from strategies.privacy.clip import check_clip, clip_update
from strategies.privacy.events import NaiveRelease, to_json
from strategies.privacy.gaussian import add_noise
from strategies.privacy.site import floating, normalised, open_generator, randomness
from strategies.types import Tensors

MEAN_NOISE_DIVISOR = 0.1
"""The recipe's constant: noise of 1 / (K · 0.1)."""


@dataclass(frozen=True)
class NaiveMeanNoise:
    """Gaussian noise of standard deviation 1 / (K·0.1) on the mean of K updates, whatever ε is claimed."""

    claimed_epsilon: float | None
    clip: float | None
    fixed_seed: int | None = None
    unit = "site"
    counts_refused = True

    def __post_init__(self) -> None:
        _check("naive_mean_noise", self.claimed_epsilon, self.clip)

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return _clipped(delta, self.clip)

    def factor(self, factor: float) -> float:
        return factor

    def noise_sd(self, factors: Mapping[str, float]) -> float:
        return 1.0 / (len(factors) * MEAN_NOISE_DIVISOR)

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        return _release(self, "mean-noise", mean, factors, state)


@dataclass(frozen=True)
class NaiveLaplaceScale:
    """`randn · sensitivity / ε`: the scale of Laplace's mechanism, which is for L1, on Gaussian draws.

    The sensitivity is the true one where updates are clipped (C·max wᵢ), and 1·max wᵢ where they are not.
    """

    claimed_epsilon: float
    clip: float | None
    fixed_seed: int | None = None
    unit = "site"
    counts_refused = True

    def __post_init__(self) -> None:
        _check("naive_laplace_scale", self.claimed_epsilon, self.clip)

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return _clipped(delta, self.clip)

    def factor(self, factor: float) -> float:
        return factor

    def noise_sd(self, factors: Mapping[str, float]) -> float:
        return _largest(factors) * (1.0 if self.clip is None else self.clip) / self.claimed_epsilon

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        return _release(self, "laplace-scale", mean, factors, state)


def _release(
    part: NaiveMeanNoise | NaiveLaplaceScale, formula: str, mean: Tensors, factors: Mapping[str, float], state: Facts
) -> tuple[Tensors, Facts, Facts]:
    generator, after = open_generator(part.fixed_seed, state)
    sd = part.noise_sd(factors)
    event = NaiveRelease(
        formula=formula,
        claimed_epsilon=part.claimed_epsilon,
        noise_multiplier=0.0 if part.clip is None else sd / (part.clip * _largest(factors)),
        clip=part.clip,
        sd=sd,
        weights=normalised(factors),
        randomness=randomness(part.fixed_seed).origin,
    )
    return add_noise(floating(mean), sd, generator), after, to_json(event)


def _clipped(delta: Tensors, clip: float | None) -> Tensors:
    return delta if clip is None else clip_update(delta, clip)[0]


def _largest(factors: Mapping[str, float]) -> float:
    return max(normalised(factors).values())


def _check(part: str, claimed_epsilon: float | None, clip: float | None) -> None:
    if clip is not None:
        check_clip(part, clip)
    if claimed_epsilon is not None and not (math.isfinite(claimed_epsilon) and claimed_epsilon > 0.0):
        raise PartError(f"privacy {part}: claimed_epsilon is {claimed_epsilon}; a finite number > 0 is needed")
