"""What a run with private training costs a hospital, known in full before anything is computed.

In:  the resolved configuration; no data.
Out: the events of a round and of the final scoring, and the plan of the whole run.

Training, validation and test patients are disjoint, so the dearest of them counts (`accountant.populations`); the name
of the split says whether two events speak of the same division.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from app.config import Config, build
from app.rounds.legs import legs
from strategies.privacy.accountant import epsilon, gaussian_noise
from strategies.privacy.events import Event, HistogramRelease, Population
from strategies.privacy.patient import PrivateTraining

SCORED: tuple[Population, ...] = ("validation", "test")
"""Whose scores are released after the last round: the threshold is chosen on the one, figures come from the other."""

NEGLIGIBLE = 1e-3
"""The least ε for which the scoring's noise is chosen."""


@dataclass(frozen=True)
class Terms:
    """What is promised for every hospital of a run alike."""

    part: PrivateTraining
    rounds: int
    split: str
    bins: int
    evaluation: float
    """ε of the final scoring, as a share of the run's."""
    trained: int
    """Models that a hospital trains in the run."""
    scored: int
    """Models that it scores."""

    @property
    def noise(self) -> float:
        """Noise multiplier of training."""
        return self.part.noise(self.rounds)

    @property
    def promised(self) -> float:
        """ε that the run may cost a patient at the run's δ; ∞ where none is claimed."""
        return epsilon(self.plan, self.part.delta)

    @property
    def round(self) -> tuple[Event, ...]:
        """What answering one round costs."""
        return (self.part.event(self.rounds, self.split),)

    @property
    def scoring(self) -> tuple[Event, ...]:
        """What scoring one model costs."""
        return tuple(
            HistogramRelease(
                unit=self.part.unit,
                noise_multiplier=self.score_noise,
                bins=self.bins,
                population=population,
                split=self.split,
                randomness=self.part.randomness.origin,
            )
            for population in SCORED
        )

    @property
    def plan(self) -> tuple[Event, ...]:
        """Everything that one hospital answers if nothing goes wrong."""
        return self.round * (self.rounds * self.trained) + self.scoring * self.scored

    @property
    def score_noise(self) -> float:
        """Standard deviation of the noise in each bin; each patient counts for at most 1 in L2 norm."""
        given = self.part.epsilon
        run = given if given is not None else _epsilon_of(self.part.noise(self.rounds), self.part, self.rounds)
        return gaussian_noise(run * self.evaluation, self.part.delta, self.scored)


def terms_of(config: Config) -> Terms | None:
    """The terms of a run; None where its training is not private."""
    return _terms(json.dumps({key: config[key] for key in NEEDED}, sort_keys=True))


NEEDED = ("strategy", "split", "budget", "rounds", "federation")


@lru_cache(maxsize=16)
def _terms(needed: str) -> Terms | None:
    config = json.loads(needed)
    part = build(config["strategy"]).privacy
    if not isinstance(part, PrivateTraining):
        return None
    made = legs(config)
    return Terms(
        part=part,
        rounds=config["rounds"],
        split=split_name(config["split"]),
        bins=config["budget"]["bins"],
        evaluation=config["budget"]["evaluation"],
        trained=max(sum(name in leg.train for leg in made) for name in config["federation"]["hospitals"]),
        scored=len(made),
    )


def split_name(split: Mapping[str, Any]) -> str:
    """A name that changes whenever a patient could change sides."""
    return hashlib.sha256(json.dumps(dict(split), sort_keys=True).encode()).hexdigest()[:12]


def _epsilon_of(noise: float, part: PrivateTraining, rounds: int) -> float:
    """ε of training with this noise and real randomness, whatever the randomness is."""
    return max(NEGLIGIBLE, replace(part, epsilon=None, noise_multiplier=noise, fixed_seed=None).promised(rounds))
