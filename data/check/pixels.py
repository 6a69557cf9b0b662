"""What pixels say: every scan read once, its labels placed in it, its numbers held against what is plausible."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.check.finding import Finding, Level, of_error
from data.errors import CropTooLarge, DataError, OutsideScan
from data.preprocess import Preprocess
from data.preprocess.crop import corners_of
from data.samples import Candidate, ScanRef
from data.sources.source import Source
from data.statistics import Limits
from data.statistics.scan import scan_numbers
from data.statistics.site import shows_hounsfield
from data.volume import CtVolume


@dataclass(frozen=True)
class Read:
    """One scan after it was read."""

    ref: ScanRef
    findings: tuple[Finding, ...]
    numbers: Mapping[str, float]
    """By `quantities.QUANTITIES`; empty where it could not be read, or is no CT."""
    is_usable: bool


def read_scan(source: Source, ref: ScanRef, preprocess: Preprocess, limits: Limits) -> Read:
    """Read one scan and find what is wrong with it."""
    try:
        volume = source.read(ref)
    except DataError as error:
        return Read(ref, (of_error(error, Level.REFUSED),), {}, is_usable=False)
    numbers = scan_numbers(volume) if shows_hounsfield(preprocess) else {}
    misfits = tuple(_of_crops(ref, volume, source.candidates(ref), preprocess))
    return Read(ref, (*misfits, *_of_numbers(ref, numbers, limits)), numbers, is_usable=not misfits)


def _of_crops(ref: ScanRef, volume: CtVolume, places: Sequence[Candidate], preprocess: Preprocess) -> Iterator[Finding]:
    """Labels around which no crop can be cut: the first is named, and how many there are; a scan too small for any."""
    errors = [error for place in places if (error := _misplaced(volume, place)) is not None]
    if errors:
        finding = of_error(errors[0], Level.REFUSED)
        what = f"scan {ref.uid}: {len(errors)} of {len(places)} labels, first: {finding.what}"
        yield Finding(Level.REFUSED, finding.code, what, finding.remedy)
    least = min(n * mm for n, mm in zip(volume.hu_ZYX.shape, volume.spacing_zyx_mm, strict=True))
    edge = preprocess.size * (preprocess.spacing_mm or max(volume.spacing_zyx_mm))
    if least < edge:
        what = f"scan {ref.uid}: {least:.0f} mm along its shortest side, a crop has {edge:.0f} mm"
        level = Level.REFUSED if places else Level.WARNING
        yield Finding(level, CropTooLarge.code, what, "leave it out, or choose a smaller preprocess")


def _misplaced(volume: CtVolume, place: Candidate) -> OutsideScan | None:
    try:
        corners_of(volume, np.array([place.centre_xyz_mm]), size=1)
    except OutsideScan as error:
        return error
    return None


def _of_numbers(ref: ScanRef, numbers: Mapping[str, float], limits: Limits) -> Iterator[Finding]:
    """Numbers that are strange for one scan: the hospital as a whole may be sound, so it is told and not refused."""
    for oddity in limits.oddities(numbers):
        code = f"implausible-{oddity.name.replace('_', '-')}"
        yield Finding(Level.WARNING, code, f"scan {ref.uid}: {oddity.what}", oddity.quantity.fault)
