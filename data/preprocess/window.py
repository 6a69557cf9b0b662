"""Hounsfield window: what the network sees of the scale, and how it becomes [0, 1]."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import BadSetting
from data.volume import AIR_HU, INT16


@dataclass(frozen=True)
class Window:
    """Hounsfield units from `low_hu` to `high_hu` become 0 to 1; beyond, they saturate."""

    low_hu: float
    high_hu: float

    def __post_init__(self) -> None:
        if not INT16.min <= self.low_hu < self.high_hu <= INT16.max:
            raise BadSetting(
                f"window_hu is ({self.low_hu:g}, {self.high_hu:g}); two numbers are needed, the lower first, "
                f"between {INT16.min} and {INT16.max}"
            )

    def clip(self, hu: NDArray[np.int16]) -> NDArray[np.int16]:
        return np.clip(hu, math.ceil(self.low_hu), math.floor(self.high_hu))

    @property
    def air(self) -> int:
        """What stands where a crop leaves its scan: air, as the window shows it."""
        return int(self.clip(np.array([AIR_HU], np.int16))[0])

    def unit(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """int16 inside the window → float32 in [0, 1], same shape."""
        scale = np.float32(1.0 / (self.high_hu - self.low_hu))
        x: NDArray[np.float32] = np.subtract(hu, np.float32(self.low_hu), dtype=np.float32)
        x *= scale
        return x
