"""DICOM CT: headers → stacks → box → Hounsfield units → `CtVolume`.

A file's header becomes planes (`headers`, `functional_groups` → `plane`), the planes of a series become stacks
(`stacks`), a stack is judged and laid out (`kinds`, `pixels`, `place`, `box`) before a pixel is read (`series`).
"""

from data.dicom.series import read_series

__all__ = ["read_series"]
