"""Audit of a run's privacy part, whichever it is: patient, sample, site or none.

patient, sample   canary patients (crops) at one hospital; every round is trained by the code that hospitals run, and
                  the attacker sees every model that leaves
site              canary hospitals of unlike size whose updates point in a direction of their own, or are zero; the
                  run's own weighting, clipping, mean and noise, as a round of the server uses them; the attacker sees
                  every update released, and knows the weights
none              as patient, trained without noise
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.addresses import derive
from app.audit.bound import CONFIDENCE, lower_bound
from app.audit.canaries import Canaries, Probe, guessed_right, shares
from app.config import Config, build
from app.training.fit import Training, fit
from app.training.private_fit import private_fit
from strategies import Federated
from strategies.privacy import Facts, Privacy
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import NaiveRelease, SiteRelease, from_json
from strategies.privacy.patient import PrivateTraining
from strategies.types import Report

COORDINATES = 20_000
"""Of a canary hospital's update: many enough for 200 random directions to be nearly at right angles."""

PATIENTS = (530, 164, 59, 55)
"""Of the canary hospitals, in turn, as in the Fed-LIDC data: the noise has to hide the largest weight, and noise for
equal ones is 0.38 of that."""

CROPS = 2
"""Of a canary patient."""


@dataclass(frozen=True)
class Attack:
    """What is fixed before anything is computed."""

    canaries: int
    guesses: int
    seed: int = 0
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if not 2 <= self.guesses <= self.canaries:
            raise ValueError(f"guesses: got {self.guesses} about {self.canaries} canaries; 2 … as many are needed")


@dataclass(frozen=True)
class Audit:
    """What is claimed, and what was shown."""

    unit: str
    claimed: float
    """ε; ∞ where nothing is claimed."""
    delta: float
    shown: float
    """With the attack's confidence, ε is at least this."""
    correct: int
    guesses: int
    canaries: int

    @property
    def holds(self) -> bool:
        """Whether the claim survived."""
        return self.shown <= self.claimed


def audit(config: Config, attack: Attack) -> Audit:
    """Attack the privacy part of a configuration, in so many rounds as it has."""
    strategy: Federated = build(config["strategy"])
    if strategy.privacy.unit == "site":
        return _of_site(strategy, config, attack)
    return _of_training(strategy.privacy, config, attack)


def unit_of(config: Config) -> str:
    """Whose data the privacy part of a configuration protects: patient, sample, site or none."""
    unit: str = build(config["strategy"]).privacy.unit
    return unit


def _of_training(part: Privacy, config: Config, attack: Attack) -> Audit:
    crops = CROPS if part.unit != "sample" else 1
    canaries = Canaries(attack.canaries, crops, config["preprocess"]["size"], attack.seed)
    model, scores = Probe(canaries.size), np.zeros(attack.canaries)
    for round in range(1, config["rounds"] + 1):
        before = _weights(model)
        _train(model, part, canaries, config, round)
        scores += canaries.traces(_weights(model) - before)
    is_drawn = isinstance(part, PrivateTraining) and part.sample_rate < 1.0
    correct = guessed_right(scores, canaries.is_in, attack.guesses, is_drawn=is_drawn)
    if isinstance(part, PrivateTraining):
        return _audit(part.unit, part.promised(config["rounds"]), part.delta, correct, attack)
    return _audit(part.unit, math.inf, float(config["budget"]["delta"]), correct, attack)


def _train(model: Probe, part: Privacy, canaries: Canaries, config: Config, round: int) -> None:
    """One round at the hospital."""
    training: Training = build(config["training"])
    common: dict[str, Any] = {"training": training, "device": torch.device("cpu")}
    if not isinstance(part, PrivateTraining):
        fit(model, canaries, address=(canaries.seed, "audit", round), **common)
        return
    private_fit(
        model,
        canaries,
        privacy=part,
        noise_multiplier=part.noise(config["rounds"]),
        generator=part.randomness.open("audit", canaries.seed, round),
        **common,
    )


def _of_site(strategy: Federated, config: Config, attack: Attack) -> Audit:
    """Every hospital replies; a canary that is left out replies with zero, and keeps its weight."""
    rng = derive(attack.seed, "audit", "directions")
    u_HD = rng.standard_normal((attack.canaries, COORDINATES), dtype=np.float32)
    u_HD *= _clip(strategy.privacy) / np.linalg.norm(u_HD, axis=1, keepdims=True)
    is_in = derive(attack.seed, "audit", "coins").random(attack.canaries) < 1 / 2
    state: Facts = {}
    scores, events = np.zeros(attack.canaries), list[SiteRelease | NaiveRelease]()
    for round in range(1, config["rounds"] + 1):
        released, state, facts = _release(strategy, u_HD, is_in, state, round)
        events.append(cast(SiteRelease | NaiveRelease, from_json(facts)))
        scores += _evidence(events[-1], shares(u_HD, released))
    delta = float(config["budget"]["delta"])
    correct = guessed_right(scores, is_in, attack.guesses, is_drawn=False)
    return _audit("site", epsilon(events, delta), delta, correct, attack)


def _release(
    strategy: Federated, u_HD: NDArray[np.float32], is_in: NDArray[np.bool_], state: Facts, round: int
) -> tuple[NDArray[np.float32], Facts, Facts]:
    """What a round of the server does with updates (`strategies.intake`, `strategies.round`), without the post."""
    part, fold = strategy.privacy, strategy.aggregate.begin({"w": u_HD[0]})
    factors: dict[str, float] = {}
    for n, u in enumerate(u_HD):
        report = Report(_name(n), round, patients=PATIENTS[n % len(PATIENTS)], crops=PATIENTS[n % len(PATIENTS)])
        factors[_name(n)] = part.factor(strategy.weighting.factor(report, round))
        fold.add(_name(n), part.bound({"w": copy.copy(u)}, state) if is_in[n] else {}, factors[_name(n)])
    norms = {_name(n): float(np.linalg.norm(u)) for n, u in enumerate(u_HD) if is_in[n]}
    released, after, facts = part.release(fold.combine().delta, factors, state, norms)
    return released["w"], after, facts


def _evidence(event: SiteRelease | NaiveRelease, share_H: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H,): log of how much likelier each share of a release is with that hospital in it than without it.

    Where weights differ the shares themselves do not compare: a small hospital's is hardly more if it is in.
    """
    pull_H = np.array([event.weights[_name(n)] for n in range(len(share_H))]) * (event.clip or 1.0)
    return np.asarray(pull_H * (share_H - pull_H / 2) / event.sd**2)


def _name(n: int) -> str:
    return f"canary{n:04d}"


def _clip(part: Privacy) -> float:
    """Canaries are as long as they may be."""
    return float(getattr(part, "clip", None) or 1.0)


def _audit(unit: str, claimed: float, delta: float, correct: int, attack: Attack) -> Audit:
    shown = lower_bound(
        canaries=attack.canaries,
        guesses=attack.guesses,
        correct=correct,
        delta=delta,
        confidence=attack.confidence,
    )
    return Audit(unit, claimed, delta, shown, correct, attack.guesses, attack.canaries)


def _weights(model: Probe) -> NDArray[np.float32]:
    return model.fc.weight.detach().numpy().ravel().copy()
