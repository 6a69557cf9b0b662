"""What lies in every export beside the scans: scout views, screenshots, dose pages, reformatted images, reports.

Told by SOP class (0008,0016), Modality (0008,0060) and ImageType (0008,0008; PS3.3 C.8.2.1.1.1: value 3 of a CT image
is AXIAL or LOCALIZER, everything else is a vendor's own word), and by the descriptions that vendors give their pages.
"""

import re
from collections.abc import Callable

from data.dicom.plane import Plane
from data.errors import (
    DerivedImage,
    ExamSummary,
    Localiser,
    MissingModality,
    ReportObject,
    ScanError,
    SecondaryCapture,
    WrongModality,
)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURES = (f"{_STORAGE}7",)
_REPORTS = (f"{_STORAGE}88", f"{_STORAGE}104", f"{_STORAGE}11", "1.2.840.10008.5.1.4.34")
"""Structured reports, encapsulated documents, presentation states, work items."""

_SCOUTS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}
_DERIVED = {"MPR", "MIP", "MINIP", "REFORMATTED", "PROJECTION IMAGE", "AVERAGE", "RESAMPLED", "VOLUME_RENDERED", "CPR"}
_PAGES = re.compile(r"\b(EXAM.?SUMMARY|DOSE.?(REPORT|INFO\w*|SUMMARY)|PATIENT.?PROTOCOL|SCREEN.?(SAVE|SHOT)\w*|PROT)\b")

_LOSSY_FLAG = "01"


def refuse_other_objects(plane: Plane, *, accept: frozenset[str]) -> None:
    """Pass a CT image; refuse anything else by name.

    Args:
        plane: any slice of the stack.
        accept: codes of what the hospital takes knowingly: `derived-image`, `missing-modality`.

    Raises:
        WrongModality, Localiser, SecondaryCapture, ExamSummary, DerivedImage, ReportObject, MissingModality
    """
    fault = next((fault for look in _LOOKS if (fault := look(plane))), None)
    if fault is not None and fault.code not in accept:
        raise fault


def _report(plane: Plane) -> ScanError | None:
    if not _is_of(plane, _REPORTS) and plane.header.modality != "SR":
        return None
    return ReportObject(f"{plane.name}: a report or document (Modality {plane.header.modality!r}); {_LEAVE}")


def _capture(plane: Plane) -> ScanError | None:
    if not _is_of(plane, _SECONDARY_CAPTURES):
        return None
    return SecondaryCapture(f"{plane.name}: a secondary capture (a screenshot), no measured voxels; {_LEAVE}")


def _page(plane: Plane) -> ScanError | None:
    page = _PAGES.search(" ".join((*plane.image_type, plane.header.series_description.upper())))
    if page is None:
        return None
    return ExamSummary(f"{plane.name}: a page of the examination ({page.group()!r}) drawn as an image; {_LEAVE}")


def _other_modality(plane: Plane) -> ScanError | None:
    modality = plane.header.modality
    if modality in ("CT", ""):
        return None
    return WrongModality(f"{plane.name}: Modality is {modality!r}; only CT has Hounsfield units, leave the file out")


def _scout(plane: Plane) -> ScanError | None:
    if not _SCOUTS.intersection(plane.image_type):
        return None
    return Localiser(f"{plane.name}: a localiser (ImageType {_listed(plane)}), a flat view and no slice; {_LEAVE}")


def _derived(plane: Plane) -> ScanError | None:
    first, second = (*plane.image_type, "", "")[:2]
    # Lossy compression makes an image DERIVED too; whether that is taken is another question (`lossy-image`).
    is_only_compressed = second == "PRIMARY" and plane.header.lossy == _LOSSY_FLAG
    if not _DERIVED.intersection(plane.image_type) and (first != "DERIVED" or is_only_compressed):
        return None
    return DerivedImage(
        f"{plane.name}: derived from other images (ImageType {_listed(plane)}), not measured; export the original "
        "series, or accept it with source.accept: [derived-image]"
    )


def _unnamed_modality(plane: Plane) -> ScanError | None:
    if plane.header.modality:
        return None
    return MissingModality(
        f"{plane.name}: no Modality; where it is CT for certain, accept it with source.accept: [missing-modality]"
    )


_LEAVE = "left out of training"

_LOOKS: tuple[Callable[[Plane], ScanError | None], ...] = (
    _report, _capture, _page, _other_modality, _scout, _derived, _unnamed_modality,
)  # fmt: skip
"""In this order: what says most comes first."""


def _is_of(plane: Plane, families: tuple[str, ...]) -> bool:
    return any(plane.header.sop_class == uid or plane.header.sop_class.startswith(f"{uid}.") for uid in families)


def _listed(plane: Plane) -> str:
    return "\\".join(plane.image_type)
