"""Random changes that leave a nodule a nodule: draw them into a value, then apply the value.

Turns are the 48 ways to lay a cube into itself (24 rotations by 90°, and their mirror images): voxels move, none is
interpolated. Intensity: x ← clip(x · factor + offset, 0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import BadSetting


@dataclass(frozen=True)
class Turn:
    """One way to lay a cube into itself: exchange axes, then reverse some."""

    axes: tuple[int, int, int] = (0, 1, 2)
    reversed: tuple[bool, bool, bool] = (False, False, False)

    def __call__(self, x_ZYX: NDArray[Any]) -> NDArray[Any]:
        """A view of the cube, turned."""
        return x_ZYX.transpose(self.axes)[tuple(slice(None, None, -1 if back else 1) for back in self.reversed)]

    @property
    def is_mirror(self) -> bool:
        swaps = sum(self.axes[i] > self.axes[j] for i in range(3) for j in range(i + 1, 3))
        return (swaps + sum(self.reversed)) % 2 == 1


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one crop; applying it again gives the same voxels."""

    turn: Turn = Turn()
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Augment:
    """Which changes may be drawn.

    Args:
        flips: mirror images.
        rotations: rotations by 90° in all three planes; with `flips` all 48 turns, without 24.
        axial_only: rotations in the Y–X plane only, for crops whose voxels are no cubes.
        intensity: contrast; the factor lies in [1 − intensity, 1 + intensity].
        shift: brightness; the offset lies in [−shift, shift].
    """

    flips: bool = True
    rotations: bool = True
    intensity: float = 0.0
    shift: float = 0.0
    axial_only: bool = False

    def __post_init__(self) -> None:
        for name, amplitude in (("intensity", self.intensity), ("shift", self.shift)):
            if not 0 <= amplitude < 1:
                raise BadSetting(f"augment.{name} is {amplitude}; a share of the window in [0, 1) is needed")

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw the changes of one crop. Takes the same three numbers from `rng` whatever is switched on."""
        at, contrast, brightness = rng.random(3).tolist()
        turns = _turns(self.flips, self.rotations, self.axial_only)
        return Drawn(
            turn=turns[int(at * len(turns))],
            factor=1.0 + self.intensity * (2 * contrast - 1),
            offset=self.shift * (2 * brightness - 1),
        )

    def apply(self, x_ZYX: NDArray[np.float32], drawn: Drawn) -> NDArray[np.float32]:
        """The changed crop, a new array of the same shape (turns need equal sides)."""
        return jitter(np.array(drawn.turn(x_ZYX), order="C"), [drawn])


def jitter(x: NDArray[np.float32], drawn: Sequence[Drawn]) -> NDArray[np.float32]:
    """Apply the intensity part of `drawn`, in place: to one crop, or along the first axis to a batch of as many."""
    if all(d.factor == 1.0 and d.offset == 0.0 for d in drawn):
        return x
    each = (len(drawn), *(1,) * (x.ndim - 1)) if len(drawn) > 1 or x.ndim > 3 else (1,) * x.ndim
    x *= np.array([d.factor for d in drawn], np.float32).reshape(each)
    x += np.array([d.offset for d in drawn], np.float32).reshape(each)
    return np.clip(x, 0.0, 1.0, out=x)


@lru_cache
def _turns(flips: bool, rotations: bool, axial_only: bool) -> tuple[Turn, ...]:
    """All turns that the switches allow; a group, so that two turns are again one of them."""
    axes = ((z, y, x) for z, y, x in permutations(range(3)))
    reversals = [(z, y, x) for z, y, x in product((False, True), repeat=3)]
    every = (Turn(exchanged, back) for exchanged in axes for back in reversals)
    return tuple(turn for turn in every if _allowed(turn, flips, rotations, axial_only))


def _allowed(turn: Turn, flips: bool, rotations: bool, axial_only: bool) -> bool:
    if not rotations:
        return turn.axes == (0, 1, 2) and (flips or not any(turn.reversed))
    if axial_only and turn.axes[0] != 0:
        return False
    if axial_only and not flips and turn.reversed[0]:
        return False
    return flips or not turn.is_mirror
