"""What a hospital's data measure, as plain numbers by which hospitals can be compared before they train.

In:  a source, the preprocessing of the run, how much to look at.
Out: `SiteStatistics`: nothing but numbers under names that are fixed here. Made from a sample of scans, so that it
     costs seconds whatever a hospital holds.

Whether [0, 1] of a crop stands for Hounsfield units is read from the preprocessing: a window that begins at zero or
above shows grey values of ready-made cubes, which have no scale, no millimetres and no patient around them. Of these
only the crops are compared.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.errors import PlaceError
from data.preprocess import Preprocess
from data.sources.source import Source
from data.statistics import crops as crop_statistics
from data.statistics.crops import CropNumbers, measure
from data.statistics.sampling import Listed, Sampling, listed
from data.statistics.scan import HAS_LUNG, scan_numbers
from data.statistics.spread import spreads
from data.statistics.vendors import vendors

VERSION = 1
"""Raised with every change of what is measured or how: statistics kept from before are then made anew."""

COUNTS = ("patients", "scans", "crops", "positives", "seen_patients", "seen_scans", "seen_negatives", "seen_positives")
"""All of the hospital, then what was looked at."""


@dataclass(frozen=True)
class SiteStatistics:
    """Numbers of one hospital."""

    is_ct: bool
    """Whether voxels stand for Hounsfield units."""
    counts: Mapping[str, int]
    """By the names of `COUNTS`."""
    vendors: Mapping[str, int]
    """Patients by manufacturer (`vendors.KNOWN`)."""
    numbers: Mapping[str, float]
    """By the names of `quantities.QUANTITIES`, with `_low` and `_high`. What cannot be told is absent."""
    told: Mapping[str, int]
    """By the same names, and by `crops.CLASSES` for all that is of their crops: of how many patients a number is."""
    histograms: Mapping[str, tuple[float, ...]]
    """Brightness of crops by class (`crops.CLASSES`); each sums to 1."""
    separation: Mapping[str, float]
    """By shape (`shape.SHAPES`): AUC − ½ of telling the classes apart by it; empty where crops are too few."""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def of_plain(plain: Mapping[str, Any]) -> SiteStatistics:
    """The inverse of `SiteStatistics.plain`, also after a way through JSON."""
    histograms = {name: tuple(shares) for name, shares in plain["histograms"].items()}
    return SiteStatistics(**{**plain, "histograms": histograms})


@dataclass(frozen=True)
class _Look:
    """One scan, looked at."""

    patient: str
    numbers: Mapping[str, float]
    """Empty where it is no CT."""
    crops: Sequence[CropNumbers]
    outside: int
    """Labels around which it has no crop."""


def site_statistics(
    source: Source,
    preprocess: Preprocess,
    *,
    sampling: Sampling | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> SiteStatistics:
    """Measure a hospital. `progress` is called with scans done and scans to be looked at.

    Raises:
        SourceError, ScanError: data that cannot be read.
    """
    scans = listed(source)
    chosen = (sampling or Sampling()).choose(scans, are_cubes=source.resident)
    looks = []
    for done, scan in enumerate(chosen, start=1):
        looks.append(_look(source, scan, preprocess))
        progress(done, len(chosen))
    crops = [crop for look in looks for crop in look.crops]
    return SiteStatistics(
        is_ct=shows_hounsfield(preprocess),
        counts=_counts(scans, chosen, crops),
        vendors=vendors(scan.ref for scan in scans),
        numbers={**_scan_numbers(looks), **_crop_numbers(looks, crops, preprocess), **_label_numbers(scans)},
        told={**_told(looks), **crop_statistics.told(crops)},
        histograms=crop_statistics.histograms(crops),
        separation=crop_statistics.separation(crops),
    )


def shows_hounsfield(preprocess: Preprocess) -> bool:
    """Whether voxels stand for Hounsfield units: the window then begins below water."""
    return preprocess.window.low_hu < 0


def statistics_stamp(source: Source, preprocess: Preprocess, sampling: Sampling) -> str:
    """Changes when the statistics may: with any scan or label, the preprocessing, the sampling, or this code."""
    digest = hashlib.sha256(json.dumps([VERSION, preprocess.fingerprint(), asdict(sampling)]).encode())
    for scan in listed(source):
        digest.update(f"{scan.ref}\0{source.stamp(scan.ref)}\0{scan.places}\n".encode())
    return digest.hexdigest()[:32]


def _look(source: Source, scan: Listed, preprocess: Preprocess) -> _Look:
    volume, is_ct = source.read(scan.ref), shows_hounsfield(preprocess)
    prepared, patient = preprocess.prepare(volume), scan.ref.patient
    crops, outside = [], 0
    for place in scan.places:
        try:
            x_ZYX = preprocess.crop(prepared, place.centre_xyz_mm)
        except PlaceError:
            outside += 1
        else:
            voxel_mm = prepared.spacing_zyx_mm[2]
            crops.append(measure(x_ZYX, patient=patient, label=place.label, voxel_mm=voxel_mm, is_ct=is_ct))
    return _Look(patient, scan_numbers(volume) if is_ct else {}, crops, outside)


def _counts(scans: Sequence[Listed], chosen: Sequence[Listed], crops: Sequence[CropNumbers]) -> dict[str, int]:
    positives = sum(crop.label for crop in crops)
    told = (
        len({scan.ref.patient for scan in scans}),
        len(scans),
        sum(len(scan.places) for scan in scans),
        sum(scan.positives for scan in scans),
        len({scan.ref.patient for scan in chosen}),
        len(chosen),
        len(crops) - positives,
        positives,
    )
    return dict(zip(COUNTS, told, strict=True))


def _scan_numbers(looks: Sequence[_Look]) -> dict[str, float]:
    rows = [look.numbers for look in looks if look.numbers]
    if not rows:
        return {}
    with_lung = sum(row[HAS_LUNG] for row in rows) / len(rows)
    told = spreads({name: value for name, value in row.items() if name != HAS_LUNG} for row in rows)
    return {**told, HAS_LUNG: with_lung}


def _told(looks: Sequence[_Look]) -> dict[str, int]:
    names = {name for look in looks for name in look.numbers}
    return {name: len({look.patient for look in looks if name in look.numbers}) for name in sorted(names)}


def _crop_numbers(looks: Sequence[_Look], crops: Sequence[CropNumbers], preprocess: Preprocess) -> dict[str, float]:
    told, window = crop_statistics.numbers(crops), preprocess.window
    outside = sum(look.outside for look in looks)
    if crops or outside:
        told["outside_share"] = outside / (len(crops) + outside)
    if shows_hounsfield(preprocess) and "positive_centre" in told:
        told["positive_centre_hu"] = window.low_hu + told["positive_centre"] * (window.high_hu - window.low_hu)
    return told


def _label_numbers(scans: Sequence[Listed]) -> dict[str, float]:
    """Of all labels: how many, how many are positive, and which class has diameters."""
    places = [place for scan in scans for place in scan.places]
    told = {"labelled": float(len(places))}
    by_class = [[place.diameter_mm is not None for place in places if place.label == label] for label in (0, 1)]
    if places:
        told["positive_share"] = len(by_class[1]) / len(places)
    if all(by_class):
        negatives, positives = (sum(measured) / len(measured) for measured in by_class)
        told["measured_negatives"] = negatives - positives
    return told
