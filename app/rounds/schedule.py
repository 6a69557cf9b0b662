"""The hospitals' learning rate over rounds: a climb in equal steps, then half a cosine down to a floor.

    round r ≤ W        (r / (W + 1))
    round r > W        f + (1 − f) · (1 + cos π·t) / 2,   t = (r − 1 − W) / (R − W)

of R rounds, W of warm-up, floor f, as factors on training.lr. The first round after the climb has 1, and the last one
is still above the floor, so that no round is asked to learn nothing. A function of the round alone: a resumed run goes
on with the same factors.

Source: Loshchilov, Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", eq. 5, without restarts; the
climb: Goyal et al. 2017, "Accurate, large minibatch SGD", § 2.2.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """`warmup`: rounds of climb. `floor`: share of the learning rate that the cosine falls towards; 1 does not fall.

    Raises ValueError for a value out of range.
    """

    warmup: int = 0
    floor: float = 1.0

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"schedule.warmup: got {self.warmup}; write 0 or more rounds")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"schedule.floor: got {self.floor}; write a share between 0 and 1")

    def scale(self, round: int, *, rounds: int) -> float:
        """The factor of `round`, 1 … `rounds`; always above 0."""
        if round <= self.warmup:
            return round / (self.warmup + 1)
        done = (round - 1 - self.warmup) / max(1, rounds - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
