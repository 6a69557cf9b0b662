"""`labels.csv`: the places a hospital's own DICOM series are labelled at.

    series_uid,x_mm,y_mm,z_mm,label,diameter_mm
    1.2.840…7,-57.4,131.2,-520.4,1,15.5

Coordinates are DICOM's patient coordinates (LPS, mm); label is 1 or 0; diameter_mm may be left out or empty.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.errors import BadTable
from data.samples import Candidate
from data.tables import read_columns, text, write_rows

_LONGEST_UID = 160
"""A UID has 64 characters; where one series holds several scans, `#` and what sets one apart follow."""

_REQUIRED: Mapping[str, type] = {"series_uid": str, "x_mm": float, "y_mm": float, "z_mm": float, "label": int}


def read_labels(path: Path) -> dict[str, list[Candidate]]:
    """Candidates by series, in the file's order. Raises BadTable, with the line."""
    columns = read_columns(path, _REQUIRED, optional={"diameter_mm": float}, text_bytes=_LONGEST_UID)
    uids, labels = text(columns["series_uid"]), columns["label"].tolist()
    places = zip(*(columns[name].tolist() for name in ("x_mm", "y_mm", "z_mm")), strict=True)
    diameters = columns["diameter_mm"].tolist() if "diameter_mm" in columns else [math.nan] * len(uids)
    found: dict[str, list[Candidate]] = {}
    for line, (uid, place, label, diameter) in enumerate(zip(uids, places, labels, diameters, strict=True), start=2):
        if label not in (0, 1):
            raise BadTable(f"{path}, line {line}: label is {label}; 1 (nodule, or malignant) or 0 is needed")
        candidate = Candidate(place, label, None if math.isnan(diameter) else diameter)
        found.setdefault(uid, []).append(candidate)
    return found


def write_labels(path: Path, labels: Iterable[tuple[str, Sequence[Candidate]]]) -> None:
    """The inverse: scan uid and its places. Coordinates to a thousandth of a millimetre."""
    rows = (
        (uid, *(round(v, 3) for v in place.centre_xyz_mm), place.label, _diameter(place))
        for uid, places in labels
        for place in places
    )
    write_rows(path, (*_REQUIRED, "diameter_mm"), rows)


def _diameter(place: Candidate) -> float | str:
    return "" if place.diameter_mm is None else round(place.diameter_mm, 3)
