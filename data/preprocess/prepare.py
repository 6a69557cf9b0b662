"""The way from a scan to what the network sees, as one value with a fingerprint.

In:  `CtVolume` as a source read it.
Out: a prepared volume (turned to the patient's axes, windowed, cubic voxels, int16: what the cache stores), and
     crops of it, x_ZYX float32 in [0, 1].
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.errors import BadSetting
from data.preprocess.crop import corner_of, cut
from data.preprocess.orient import oriented
from data.preprocess.resample import isotropic
from data.preprocess.window import Window
from data.volume import CtVolume, Point

VERSION = 1
"""Raise with every change to the voxels that `prepare` or `crop` gives: caches and fingerprints follow it."""


@dataclass(frozen=True)
class Preprocess:
    """Spacing, crop size and window. Two hospitals with equal fingerprints feed the network alike."""

    spacing_mm: float | None
    """Edge of the cubic voxels; None keeps each scan's own."""
    size: int
    """Voxels along each side of a crop."""
    window_hu: Sequence[float]
    """(low, high): what becomes 0 and 1."""

    def __post_init__(self) -> None:
        if self.size != int(self.size) or self.size < 1:
            raise BadSetting(f"preprocess.size is {self.size!r}; a positive whole number of voxels is needed")
        if len(self.window_hu) != 2:
            raise BadSetting(f"window_hu is {self.window_hu}; two numbers are needed, low and high")
        object.__setattr__(self, "window_hu", tuple(float(hu) for hu in self.window_hu))
        _ = self.window  # refuses a window that is upside down, before any scan is read

    @property
    def window(self) -> Window:
        return Window(*self.window_hu)

    def prepare(self, volume: CtVolume) -> CtVolume:
        """Turn, window and resample a scan. World coordinates keep their meaning to 1e-3 mm."""
        turned = oriented(volume)
        windowed = replace(turned, hu_ZYX=self.window.clip(turned.hu_ZYX))
        return isotropic(windowed, spacing_mm=self.spacing_mm)

    def crop(self, prepared: CtVolume, centre_xyz_mm: Point) -> NDArray[np.float32]:
        """x_ZYX of `size` voxels a side in [0, 1], air where the cube leaves the scan.

        Raises:
            CropTooLarge: the scan is smaller than the cube.
            OutsideScan: the centre is not in the scan.
        """
        corner = corner_of(prepared, centre_xyz_mm, size=self.size)
        return self.window.unit(cut(prepared.hu_ZYX, corner, size=self.size, air=self.window.air))

    def fingerprint(self) -> str:
        """Names everything that decides a crop's voxels: parameters and the version of this code."""
        return _digest(VERSION, self.spacing_mm, *self.window_hu, self.size)

    def volume_fingerprint(self) -> str:
        """As `fingerprint`, of a prepared volume: crops of any size share it."""
        return _digest(VERSION, self.spacing_mm, *self.window_hu)


def _digest(*parts: float | None) -> str:
    exact = json.dumps([None if part is None else float(part) for part in parts])
    return hashlib.sha256(exact.encode()).hexdigest()[:16]
