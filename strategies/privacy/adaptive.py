"""Site-level privacy whose clipping bound follows a quantile of the updates' norms.

Each round also counts, with noise of its own, how many updates were within the bound C, and moves C towards the
quantile γ that is asked for:

    b̃ = ½ + (Σ sᵢ + N(0, σ_b²)) / n      sᵢ = +½ within C, −½ above, 0 for a refused or zero update
    C ← C · exp(−η·(b̃ − γ))

A hospital's absence (zero-out) moves Σ sᵢ by ½, so the count is a Gaussian of multiplier 2σ_b, and sum and count
together have the stated multiplier z where the sum's own is z_Δ = (z⁻² − (2σ_b)⁻²)^(−½). The count's noise is 5 % of
the hospitals, as in the paper; it has to hide one of them: σ_b > z/2. That needs more than 10·z hospitals; with fewer,
choose the bound once, by hand, and keep it.

Source: Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially private learning with adaptive clipping", alg. 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from strategies.errors import PartError
from strategies.privacy import Facts
from strategies.privacy.clip import check_clip, clip_update
from strategies.privacy.events import SiteRelease, to_json
from strategies.privacy.gaussian import add_noise
from strategies.privacy.site import check_noise, floating, normalised, open_generator, randomness
from strategies.types import Tensors

COUNT_NOISE_SHARE = 0.05
"""σ_b as a share of the hospitals."""


@dataclass(frozen=True)
class SiteAdaptive:
    """As `Site`, with the clipping bound C in the state.

    Guarantees: a sequence of releases is that many Gaussian mechanisms of noise multiplier `noise_multiplier`, bounds
    included, for the zero-out neighbour.

    `clip`: C before the first round. `hospitals`: how many are planned to reply; the noise on the count follows it,
    so the guarantee holds whoever replies, but where fewer do the bound is led by noise.
    `quantile` γ: which share of the updates is to be within C. `rate` η: how fast C follows.
    """

    noise_multiplier: float
    clip: float
    hospitals: int
    quantile: float = 0.5
    rate: float = 0.2
    fixed_seed: int | None = None
    unit = "site"
    counts_refused = True

    def __post_init__(self) -> None:
        check_noise("site_adaptive", self.noise_multiplier)
        check_clip("site_adaptive", self.clip)
        if not 0.0 < self.quantile < 1.0:
            raise PartError(
                f"privacy site_adaptive: quantile is {self.quantile}; a share strictly between 0 and 1 is needed"
            )
        if not (math.isfinite(self.rate) and self.rate > 0.0):
            raise PartError(f"privacy site_adaptive: rate is {self.rate}; a finite number > 0 is needed")
        if not self.count_noise > self.noise_multiplier / 2.0:
            raise PartError(
                f"privacy site_adaptive: {self.hospitals} hospitals are too few to be counted in private at noise "
                f"multiplier {self.noise_multiplier:g}; at least {self.least} are needed, or strategy/privacy=site"
            )

    @property
    def least(self) -> int:
        """With how many hospitals the count's noise of 5 % of them is enough. How many there are the run knows."""
        return math.floor(self.noise_multiplier / (2.0 * COUNT_NOISE_SHARE)) + 1

    @property
    def count_noise(self) -> float:
        """σ_b, the standard deviation of the noise on the count."""
        return COUNT_NOISE_SHARE * self.hospitals

    @property
    def sum_noise_multiplier(self) -> float:
        """z_Δ: what the sum needs, so that sum and count together have z."""
        return 1.0 / math.sqrt(self.noise_multiplier**-2 - (2.0 * self.count_noise) ** -2)

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return clip_update(delta, self._clip(state))[0]

    def factor(self, factor: float) -> float:
        return factor

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        generator, after = open_generator(self.fixed_seed, state)
        clip, weights = self._clip(state), normalised(factors)
        sd = self.sum_noise_multiplier * clip * max(weights.values())
        event = SiteRelease(
            noise_multiplier=self.noise_multiplier,
            adjacency="zero-out",
            clip=clip,
            sd=sd,
            weights=weights,
            count_noise=self.count_noise,
            randomness=randomness(self.fixed_seed).origin,
        )
        noise = self.count_noise * float(generator.normals(1)[0])
        share = within(clip, [norms.get(hospital, 0.0) for hospital in factors], noise)
        moved = clip * math.exp(-self.rate * (share - self.quantile))
        return add_noise(floating(mean), sd, generator), {**after, "clip": moved}, to_json(event)

    def _clip(self, state: Facts) -> float:
        return float(state.get("clip", self.clip))


def within(clip: float, norms: list[float], noise: float) -> float:
    """The share of updates within the bound, with noise on the count; updates of norm 0 count for neither side."""
    signs = [math.copysign(0.5, clip - norm) for norm in norms if norm > 0.0]
    return 0.5 + (math.fsum(signs) + noise) / len(norms)
