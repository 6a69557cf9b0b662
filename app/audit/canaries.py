"""Canaries: made-up units whose presence is easy to see in a gradient, and the attack that looks for them.

A canary patient is a few crops of pure noise with labels of pure chance. The probe is the smallest network whose
gradient shows a crop: one weight a voxel, no bias. A canary that is left out is a patient whose voxels are all zero:
its gradient is exactly zero, and the number of patients stays the same. That is the neighbour of private training to
the letter, so every right guess counts against the mechanism and none against the canaries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.addresses import derive

AMPLITUDE = 0.25
"""Standard deviation of a canary's voxels."""

RIDGE = 1e-3
"""Keeps the equations solvable where canaries are as many as voxels."""


class Probe(nn.Module):
    """One weight a voxel: (B, 1, Z, Y, X) → (B, 1)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(size**3, 1, bias=False)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x_BCZYX: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.fc(x_BCZYX.flatten(1))
        return logits


@dataclass(frozen=True, eq=False)
class Canaries:
    """`count` patients of `crops` crops each; as a hospital's crops, those left out are zero."""

    count: int
    crops: int
    size: int
    seed: int

    @cached_property
    def is_in(self) -> NDArray[np.bool_]:
        """(count,): the coins. Fixed by the seed, before anything is trained."""
        return derive(self.seed, "audit", "coins").random(self.count) < 1 / 2

    @cached_property
    def voxels(self) -> NDArray[np.float32]:
        """Of all canaries, those left out too: (count · crops, size³)."""
        shape = (self.count * self.crops, self.size**3)
        return AMPLITUDE * derive(self.seed, "audit", "voxels").standard_normal(shape, dtype=np.float32)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Of all crops."""
        return derive(self.seed, "audit", "labels").integers(0, 2, self.count * self.crops)

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Of all crops; names sort as canaries are numbered."""
        return tuple(f"canary{n:06d}" for n in range(self.count) for _ in range(self.crops))

    def __len__(self) -> int:
        return self.count * self.crops

    def batch(
        self, indices: Sequence[int] | NDArray[np.integer], *, augment: Any = None, rng: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As a hospital's crops: those of canaries that are left out are zero. Never augmented."""
        rows = np.asarray(indices, np.int64)
        x_BV = self.voxels[rows] * self.is_in[rows // self.crops, None]
        return x_BV.reshape(-1, 1, self.size, self.size, self.size), self.labels[rows].astype(np.float32)

    def traces(self, moved_V: NDArray[np.float32]) -> NDArray[np.float64]:
        """(count,): how much of each canary's own descent is in a model's move.

        A crop pulls the probe towards its voxels where its label is 1 and away from them where it is 0, however far
        training has come; nothing else of the model is needed.
        """
        return shares(self._descents, moved_V)

    @cached_property
    def _descents(self) -> NDArray[np.float32]:
        """(count, size³): where each canary pulls."""
        signed = np.where(self.labels[:, None] == 1, self.voxels, -self.voxels)
        return np.asarray(signed.reshape(self.count, self.crops, -1).mean(axis=1))


def shares(directions_HD: NDArray[np.floating], moved_D: NDArray[np.floating]) -> NDArray[np.float64]:
    """(H,): the coefficients of the directions, scaled to length 1, that explain a move best (least squares).

    Better than each direction's inner product with the move, which also sees what the other canaries left there.
    """
    unit_HD = directions_HD / np.linalg.norm(directions_HD, axis=1, keepdims=True)
    gram_HH = unit_HD @ unit_HD.T + RIDGE * np.eye(len(unit_HD))
    return np.asarray(np.linalg.solve(gram_HH, unit_HD @ moved_D), np.float64)


def guessed_right(scores: NDArray[np.floating], is_in: NDArray[np.bool_], guesses: int, *, is_drawn: bool) -> int:
    """Guess for the `guesses` canaries of which one can be surest. Returns how many are right.

    In above the middle between high and low scores, out below it. Where those that are in are drawn by chance
    (`is_drawn`) one that never was looks as if it were out: then "in" alone is guessed, for the highest.
    """
    low, high = np.quantile(scores, [0.05, 0.95])
    above = scores - (low + high) / 2
    surest = np.argsort(-above if is_drawn else -np.abs(above), kind="stable")[:guesses]
    guessed_in = above[surest] > 0 if not is_drawn else np.ones(guesses, bool)
    return int((guessed_in == is_in[surest]).sum())
