"""One LIDC-IDRI XML file (`LidcReadMessage`) → what each reader drew.

A reader outlined a nodule of 3 mm or more on every slice that shows it and rated it; of a smaller one only a point was
set, on one slice, and non-nodules were pointed at too. The outline is the first ring of pixels *outside* of the nodule.
Pixels are counted from 0, columns (x) to the right and rows (y) down.

Source: Armato et al. 2011, "The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI)".
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Tree

import numpy as np
from numpy.typing import NDArray

from data.errors import BadReading

MALIGNANCY = range(1, 6)
"""1 highly unlikely … 5 highly suspicious."""

MOST_BYTES = 32 << 20
"""The largest file of the set has 4 MB; a file is read whole."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What one reader drew on one slice."""

    slice_uid: str
    """SOPInstanceUID of the slice."""
    is_inclusion: bool
    """Whether the inside belongs to the nodule; else it is a hole in it."""
    points_xy: NDArray[np.int64]
    """(N, 2) columns and rows, in the order they were drawn."""


@dataclass(frozen=True, eq=False)
class Marking:
    """One nodule as one reader saw it."""

    reader: int
    """Place of the reader in the file: readers are not known by name, and no two files' readers are the same."""
    outlines: tuple[Outline, ...]
    malignancy: int | None
    """1 to 5; None where it was not rated."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What all readers drew in one scan."""

    series_uid: str
    readers: int
    markings: tuple[Marking, ...]
    """Nodules of 3 mm or more alone: those that were outlined."""


def read_reading(path: str | Path) -> Reading:
    """Read one file.

    Raises:
        BadReading: not there, no XML, of another kind (the set has XML of chest X-rays too), or without what it needs.
    """
    path = Path(path)
    root = _root(path)
    uid = _text(_child(_child(root, "ResponseHeader", path), "SeriesInstanceUid", path))
    sessions = _children(root, "readingSession")
    if not uid or not sessions:
        raise BadReading(f"{path}: {'no reading session' if uid else 'an empty SeriesInstanceUid'}; leave the file out")
    found = [_marking(path, i, node) for i, session in enumerate(sessions) for node in _nodules(session)]
    return Reading(uid, len(sessions), tuple(marking for marking in found if _is_outlined(marking)))


def _root(path: Path) -> Tree.Element:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadReading(f"{path}: {error.strerror}; an XML file of LIDC-IDRI is needed") from error
    # Entities are how a small XML file becomes a large one; LIDC's have none.
    if len(content) > MOST_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise BadReading(f"{path}: too large, or with definitions of its own, as no file of LIDC-IDRI is; leave it out")
    try:
        root = Tree.fromstring(content)  # noqa: S314 (no entities, no size that matters: see above)
    except (Tree.ParseError, ValueError) as error:
        raise BadReading(f"{path}: no XML ({error}); copy the file again") from error
    if _name(root) != "LidcReadMessage":
        raise BadReading(f"{path}: a {_name(root)!r}, not a LidcReadMessage of a CT; leave the file out")
    return root


def _nodules(session: Tree.Element) -> list[Tree.Element]:
    return [node for node in session if _name(node) in ("unblindedReadNodule", "blindedReadNodule")]


def _marking(path: Path, reader: int, node: Tree.Element) -> Marking:
    rated = [_text(child) for part in _children(node, "characteristics") for child in _children(part, "malignancy")]
    malignancy = _number(path, rated[0], "malignancy") if rated else None
    if malignancy is not None and malignancy not in MALIGNANCY:
        malignancy = None  # 0 stands in some files for "not rated"
    return Marking(reader, tuple(_outline(path, roi) for roi in _children(node, "roi")), malignancy)


def _outline(path: Path, roi: Tree.Element) -> Outline:
    points = [
        [_number(path, _text(_child(edge, axis, path)), axis) for axis in ("xCoord", "yCoord")]
        for edge in _children(roi, "edgeMap")
    ]
    return Outline(
        slice_uid=_text(_child(roi, "imageSOP_UID", path)),
        is_inclusion=_text(_child(roi, "inclusion", path)).upper() != "FALSE",
        points_xy=np.array(points, np.int64).reshape(-1, 2),
    )


def _is_outlined(marking: Marking) -> bool:
    return any(len(outline.points_xy) > 1 for outline in marking.outlines)


# --- XML, whatever its namespace ---


def _name(element: Tree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: Tree.Element, name: str) -> list[Tree.Element]:
    return [child for child in element if _name(child) == name]


def _child(element: Tree.Element, name: str, path: Path) -> Tree.Element:
    if not (found := _children(element, name)):
        raise BadReading(f"{path}: a {_name(element)} without {name}; copy the file again")
    return found[0]


def _text(element: Tree.Element) -> str:
    return (element.text or "").strip()


def _number(path: Path, text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise BadReading(f"{path}: {what} is {text!r}, not a whole number; copy the file again") from error
