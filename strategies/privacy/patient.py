"""Privacy inside the hospital: DP-SGD over its patients (or, weaker, over single crops).

The mechanism runs at the hospital, before anything leaves it; the server adds nothing and does nothing to what arrives:
sums, optimisers and all later rounds are post-processing. What is declared here is what the hospital does and pays for.

    each step   every unit is drawn by its own coin of probability q; its gradient is clipped to C; the sum gets
                Gaussian noise of standard deviation z·C and is divided by q·N, whoever was drawn
    a unit      patient: all scans and crops of one patient at one hospital;  sample: one crop
    neighbour   the unit contributes zero everywhere; N, q and the number of steps are public

Source: Abadi et al. 2016, "Deep learning with differential privacy", alg. 1, with Poisson draws and a fixed
denominator; ε by composition over all planned rounds (`accountant`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from strategies.errors import PartError
from strategies.privacy import Facts
from strategies.privacy.accountant import calibrate, epsilon
from strategies.privacy.clip import check_clip
from strategies.privacy.events import DpSgd
from strategies.privacy.generator import FixedSeed, Randomness, SystemRandomness
from strategies.types import Tensors

UNITS = ("patient", "sample")
ENGINES = ("fast", "opacus")


@dataclass(frozen=True, kw_only=True)
class PrivateTraining:
    """DP-SGD at the hospital, in every step of every round.

    Guarantees: all planned rounds together are (ε, δ)-differentially private for one unit of one hospital, against
    everybody outside it. Evaluation, and whatever else the hospital sends, is charged beside it.

    `epsilon`: for all planned rounds; the noise follows from it. Or `noise_multiplier` z is given and ε follows.
    `clip`: C, the L2 bound of one unit's gradient. `sample_rate`: q, the expected share of the units in a step.
    `steps`: of a round; None: as many as draw every unit once on average. `crops`: the most crops of a patient in a
    step, drawn anew each time; all labels alike where `is_balanced`, by looking at that patient's own crops alone.
    `engine`: what computes the clipped gradients. `fixed_seed`: for simulation only; then no ε is claimed.

    Raises PartError for a value out of range.
    """

    unit: Literal["patient", "sample"]
    epsilon: float | None
    noise_multiplier: float | None
    delta: float
    clip: float
    sample_rate: float
    steps: int | None
    crops: int
    is_balanced: bool
    engine: Literal["fast", "opacus"]
    fixed_seed: int | None
    counts_refused = False
    mechanism = "dp-sgd"

    def __post_init__(self) -> None:
        check_clip(self.unit, self.clip)
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise PartError(
                f"privacy {self.unit}: epsilon is {self.epsilon} and noise_multiplier {self.noise_multiplier}; "
                "give one of them and set the other to null"
            )
        for name, (is_fine, needed) in self._checks().items():
            if not is_fine:
                raise PartError(f"privacy {self.unit}: {name} is {getattr(self, name)}; {needed} is needed")

    def _checks(self) -> Mapping[str, tuple[bool, str]]:
        return {
            "unit": (self.unit in UNITS, " or ".join(UNITS)),
            "engine": (self.engine in ENGINES, " or ".join(ENGINES)),
            "epsilon": (_is_positive(self.epsilon), "a finite number > 0"),
            "noise_multiplier": (_is_positive(self.noise_multiplier), "a finite number > 0"),
            "delta": (0.0 < self.delta < 1.0, "a probability strictly between 0 and 1 (below 1/patients)"),
            "sample_rate": (0.0 < self.sample_rate <= 1.0, "a probability in (0, 1]"),
            "steps": (self.steps is None or self.steps >= 1, "null, or 1 or more"),
            "crops": (self.crops >= 1, "1 or more"),
        }

    # --- what the hospital does -----------------------------------------------------------------------------------

    @property
    def steps_a_round(self) -> int:
        """Optimiser steps of one round: public, and the same for every hospital."""
        return self.steps if self.steps is not None else math.ceil(1.0 / self.sample_rate)

    def noise(self, rounds: int) -> float:
        """The noise multiplier z of a run of so many rounds. Rounded to the safe side."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        return _calibrated(float(self.epsilon or 0.0), self.delta, self.sample_rate, self.steps_a_round * rounds)

    def promised(self, rounds: int) -> float:
        """ε of all planned rounds at δ: what was asked for, or what the given noise gives; ∞ for a fixed seed."""
        return epsilon([self.event(rounds)] * rounds, self.delta)

    def event(self, rounds: int, split: str = "") -> DpSgd:
        """What one of `rounds` rounds is to the accountant."""
        return DpSgd(
            unit=self.unit,
            noise_multiplier=self.noise(rounds),
            sample_rate=self.sample_rate,
            steps=self.steps_a_round,
            clip=self.clip,
            split=split,
            randomness=self.randomness.origin,
        )

    @property
    def randomness(self) -> Randomness:
        """Where draws and noise come from."""
        return SystemRandomness() if self.fixed_seed is None else FixedSeed(self.fixed_seed)

    # --- the server's half: nothing -------------------------------------------------------------------------------

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return delta

    def factor(self, factor: float) -> float:
        return factor

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        return mean, state, {}


def _is_positive(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and value > 0.0)


@lru_cache(maxsize=64)
def _calibrated(target: float, delta: float, rate: float, steps: int) -> float:
    """Remembered: every round of a run asks, and the answer takes 0.3 s."""

    def plan(noise_multiplier: float) -> list[DpSgd]:
        return [DpSgd(unit="patient", noise_multiplier=noise_multiplier, sample_rate=rate, steps=steps, clip=1.0)]

    return calibrate(target, delta, plan)
