"""The nouns of a hospital's data: a scan on disk, a finding in it, a training example cut from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ScanRef:
    """One scan on the hospital's disk, known from headers alone."""

    uid: str
    """SeriesInstanceUID (0020,000E), or the source's own name of the scan. Stays in the hospital."""
    patient: str
    """PatientID (0010,0020): the unit of splits and of privacy. Stays in the hospital."""
    scanner: str = ""
    """Manufacturer (0008,0070), upper case; "" where unknown."""
    fold: int | None = None
    """Where the data set comes divided into folds (LUNA16's subset0 … subset9): which one; None elsewhere."""
    is_patient_known: bool = True
    """False where the data do not say whose scan it is: `patient` is then the scan's own name, and two scans of one
    person count as two patients."""


@dataclass(frozen=True)
class Candidate:
    """A place in a scan that is or is not a nodule."""

    centre_xyz_mm: tuple[float, float, float]
    """Patient coordinates (LPS, mm)."""
    label: int
    """1 nodule (or malignant), 0 not."""
    diameter_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One training example."""

    x_CZYX: NDArray[np.float32]
    """Crop in [0, 1]."""
    y: int
    patient: str
    scan: str
    centre_xyz_mm: tuple[float, float, float]
