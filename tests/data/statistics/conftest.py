"""Chests drawn once: every vendor's, small enough for a second each."""

from dataclasses import replace

import pytest

from data.dicom.hounsfield import padding_to_air
from data.synthetic.phantom import Frame, draw_patient
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive
from data.volume import CtVolume

FRAME = Frame(matrix=144, field_of_view_mm=330, length_mm=130)


def drawn(scanner: str, number: int = 0) -> CtVolume:
    volume = draw_patient(SCANNERS[scanner], FRAME, derive(11, scanner, number)).volume
    return replace(volume, hu_ZYX=padding_to_air(volume.hu_ZYX))


@pytest.fixture(scope="session")
def chests() -> dict[str, CtVolume]:
    """One chest a vendor, as a source would read it."""
    return {scanner: drawn(scanner) for scanner in SCANNERS}
