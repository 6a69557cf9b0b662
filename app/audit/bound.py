"""From guesses to a lower bound on ε: one run, many canaries.

m canaries are included or left out, each by its own fair coin. An attacker who sees what the mechanism released guesses
for r of them, the rest it passes over. Under (ε, δ)-differential privacy the number of right guesses is hardly ever
above a binomial's with success probability e^ε / (1 + e^ε); more right guesses than that refute ε.

Source: Steinke, Nasr, Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

CONFIDENCE = 0.9995
"""Twenty audits of sound mechanisms are then all right with probability 0.99."""

LARGEST = 30.0
"""No audit with fewer than e^30 canaries can show more."""


def chance(epsilon: float, *, canaries: int, guesses: int, correct: int, delta: float) -> float:
    """The largest probability with which an (ε, δ)-private mechanism lets so many guesses be right, or more."""
    success = 1.0 / (1.0 + math.exp(-epsilon))
    by_chance = float(binom.sf(correct - 1, guesses, success))
    if correct == 0 or delta == 0.0:
        return min(1.0, by_chance)
    # Σ over j = 1 … i of P[exactly correct − j], for every i; δ can shift that much mass by i right guesses.
    below = np.cumsum(binom.pmf(correct - np.arange(1, correct + 1), guesses, success))
    shifted = float(np.max(below / np.arange(1, correct + 1)))
    return min(1.0, by_chance + 2.0 * canaries * delta * shifted)


def lower_bound(*, canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest ε that is refuted; 0 where none is.

    Of a mechanism that is (ε, δ)-private the bound is above ε with probability at most 1 − confidence, for any attacker
    whose number of guesses was fixed beforehand.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries: 0 ≤ right ≤ guesses ≤ canaries")

    def excess(epsilon: float) -> float:
        asked = chance(epsilon, canaries=canaries, guesses=guesses, correct=correct, delta=delta)
        return asked - (1.0 - confidence)

    if excess(0.0) >= 0.0:
        return 0.0
    return float(brentq(excess, 0.0, LARGEST)) if excess(LARGEST) > 0.0 else LARGEST
