"""DICOM CT: headers → stack geometry → Hounsfield units → `CtVolume`."""

from data.dicom.series import read_series

__all__ = ["read_series"]
