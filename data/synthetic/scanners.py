"""Scanners that differ as vendors do: slice thickness, kernel, noise, what stands outside the field, how HU are stored.

Modelled on LIDC-IDRI's scans; names carry "-like" where a header has room for it, because these are not their scans.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from data.dicom.write import Encoding

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""What 12 bits with intercept -1024 can hold, which is what scanners reconstruct."""


@dataclass(frozen=True)
class Kernel:
    """How sharp the reconstruction is. Soft kernels blur; sharp ones overshoot at edges."""

    name: str
    blur_mm: float
    sharpening: float
    """0 none; 1 doubles the contrast of what is finer than `SHARP_MM`."""
    noise_blur_mm: float
    """Grain of the noise in a slice: the coarser, the softer the kernel."""


SHARP_MM = 1.8


@dataclass(frozen=True)
class Scanner:
    """One vendor's way of taking a chest CT."""

    manufacturer: str
    model: str
    slice_mm: float
    kernel: Kernel
    noise_hu: tuple[float, float]
    """Standard deviation in soft tissue: patients lie between."""
    kvp: int
    encoding: Encoding
    padding_hu: int | None = None
    """What stands outside the round field of view, tagged or not (`encoding` says); None: air."""
    is_ascending: bool = True
    """InstanceNumber ascends towards the head; False: it descends."""

    def acquire(
        self, ideal_ZYX: NDArray[np.float32], spacing_zyx_mm: tuple[float, float, float], rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Ideal densities → what this scanner reconstructs, whole HU. Changes its input."""
        pixel = spacing_zyx_mm[1]
        image = _blurred(ideal_ZYX, self.kernel.blur_mm / pixel)
        if self.kernel.sharpening:
            soft = _blurred(image, SHARP_MM / pixel)
            image += np.float32(self.kernel.sharpening) * (image - soft)
        image += _noise(image.shape, self.kernel.noise_blur_mm / pixel, rng.uniform(*self.noise_hu), rng)
        np.clip(image, LOWEST_HU, HIGHEST_HU, out=image)
        hu_ZYX = np.rint(image, out=image).astype(np.int16)
        if self.padding_hu is not None:
            hu_ZYX[:, ~_disc(image.shape[1])] = self.padding_hu
        return hu_ZYX


def _blurred(image_ZYX: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur within slices, a copy."""
    for axis in (1, 2):
        image_ZYX = gaussian_filter1d(image_ZYX, sigma, axis=axis, mode="nearest", truncate=2.5)
    return image_ZYX


def _noise(shape: tuple[int, ...], sigma: float, std_hu: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of a given strength, correlated within slices."""
    noise = _blurred(rng.standard_normal(shape, dtype=np.float32), sigma)
    noise *= np.float32(std_hu / max(float(noise[0].std()), 1e-6))
    return noise


def _disc(matrix: int) -> NDArray[np.bool_]:
    """The round field in which a scanner reconstructs."""
    away = np.arange(matrix) - (matrix - 1) / 2
    inside: NDArray[np.bool_] = np.hypot(away[:, None], away[None, :]) <= matrix / 2
    return inside


SCANNERS: Mapping[str, Scanner] = {
    "GE": Scanner(
        "GE MEDICAL SYSTEMS", "LightSpeed-like", 2.5, Kernel("STANDARD", 0.7, 0.0, 0.9), (14, 28), 120,
        Encoding(is_signed=True, bits_stored=16, padding_hu=-3024), padding_hu=-3024,
    ),
    "SIEMENS": Scanner(
        "SIEMENS", "Sensation-like", 2.0, Kernel("B50f", 0.6, 0.5, 0.7), (22, 40), 120,
        Encoding(is_signed=False, bits_stored=12),
    ),
    "PHILIPS": Scanner(
        "Philips", "Brilliance-like", 1.5, Kernel("D", 0.5, 0.8, 0.6), (25, 45), 140,
        Encoding(is_signed=True, bits_stored=16, intercept=-1000.0), padding_hu=-2000, is_ascending=False,
    ),
    "TOSHIBA": Scanner(
        "TOSHIBA", "Aquilion-like", 3.0, Kernel("FC01", 0.9, 0.0, 1.1), (10, 20), 135,
        Encoding(is_signed=True, bits_stored=16, intercept=0.0), padding_hu=-2048,
    ),
}  # fmt: skip
"""Vendor profiles by the name used in configuration."""
