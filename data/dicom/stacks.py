"""Which slices belong together: the stacks inside a series.

One SeriesInstanceUID may hold a scout view beside the scan, two phases, two kernels, and copies. Slices of another kind
(Modality, SOP class, ImageType) or orientation are another stack. Acquisitions and reconstructions are told apart only
where they lie in each other's way: on many scanners every rotation of one scan has an acquisition number of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.dicom.box import FEWEST_SLICES, box_of
from data.dicom.place import place_of
from data.dicom.plane import Plane
from data.errors import NotAVolume, ScanError

SAME_ORIENTATION = 0.02
"""Of direction cosines, about 1°: slices that wobble less stay one stack (and are refused); a scout differs by 90°."""

SAME_HEIGHT_MM = 1e-3

Value = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Slices that belong together."""

    planes: tuple[Plane, ...]
    words: tuple[str, ...]
    """What sets them apart from the rest of their series; none where they are all of it."""


def parts_of(planes: Sequence[Plane]) -> list[Part]:
    """The stacks of one series, largest first; second copies of an instance are left out."""
    found = [Part(tuple(_without_copies(planes)), ())]
    for split in (_by_kind, _by_orientation, _by_acquisition, _by_reconstruction):
        found = [smaller for part in found for smaller in split(part)]
    return sorted(found, key=lambda part: (-len(part.planes), part.words, part.planes[0].name))


def _without_copies(planes: Sequence[Plane]) -> Iterator[Plane]:
    """A file that lies in two folders counts once: the same instance, of the same size, in the same place."""
    seen = set()
    for plane in planes:
        header = plane.header
        instance = (header.sop_uid, plane.frame, header.size, header.syntax, plane.position_xyz_mm, plane.slope)
        if not header.sop_uid or instance not in seen:
            seen.add(instance)
            yield plane


def _by_kind(part: Part) -> list[Part]:
    def value(plane: Plane) -> Value:
        return (plane.header.modality, plane.header.sop_class, "\\".join(plane.image_type[:3]))

    return _split(part, [value(plane) for plane in part.planes])


def _by_orientation(part: Part) -> list[Part]:
    seen: list[np.ndarray] = []
    names: list[str] = []
    values: list[Value] = []
    for plane in part.planes:
        if plane.orientation is None or len(plane.orientation) != 6:
            values.append(("",))
            continue
        directions = np.array(plane.orientation)
        same = (k for k, other in enumerate(seen) if np.abs(directions - other).max() <= SAME_ORIENTATION)
        if (k := next(same, len(seen))) == len(seen):
            seen.append(directions)
            names.append(_unlike(_direction_name(directions), names))
        values.append((names[k],))
    return _split(part, values)


def _direction_name(directions: np.ndarray) -> str:
    normal = np.abs(np.cross(directions[:3], directions[3:]))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))] if normal.max() > 0.9 else "oblique"


def _unlike(name: str, names: Sequence[str]) -> str:
    alike = sum(other.partition(" ")[0] == name for other in names)
    return f"{name} {alike + 1}" if alike else name


def _by_acquisition(part: Part) -> list[Part]:
    return _split_overlapping(part, lambda plane: plane.acquisition, "acquisition")


def _by_reconstruction(part: Part) -> list[Part]:
    return _split_overlapping(part, lambda plane: plane.reconstruction, "reconstruction")


def _split_overlapping(part: Part, value_of: Callable[[Plane], Value], what: str) -> list[Part]:
    values = [value_of(plane) for plane in part.planes]
    if len(set(values)) == 1:
        return [part]
    heights = _heights_if_no_box(part.planes)
    if heights is None:
        return [part]
    of_value: dict[Value, list[float]] = {}
    for value, height in zip(values, heights, strict=True):
        of_value.setdefault(value, []).append(height)
    if max(map(len, of_value.values())) < FEWEST_SLICES or not _overlap(of_value):
        return [part]
    return _split(part, values, prefix=f"{what} ")


def _heights_if_no_box(planes: Sequence[Plane]) -> list[float] | None:
    """Where along their normal slices lie (mm); None where they are a box as they are, or have no places."""
    try:
        places = [place_of(plane) for plane in planes]
        box_of(places)
    except NotAVolume:
        across, down = np.array(places[0].orientation).reshape(2, 3)
        heights: list[float] = (np.array([p.position_xyz_mm for p in places]) @ np.cross(across, down)).tolist()
        return heights
    except ScanError:
        return None
    return None


def _overlap(of_value: Mapping[Value, Sequence[float]]) -> bool:
    """Whether the ranges of any two lie in each other's way."""
    ranges = sorted((min(heights), max(heights)) for heights in of_value.values())
    reached = ranges[0][1]
    for low, high in ranges[1:]:
        if low <= reached + SAME_HEIGHT_MM:
            return True
        reached = max(reached, high)
    return False


def _split(part: Part, values: Sequence[Value], *, prefix: str = "") -> list[Part]:
    """One part for each value. Slices that lack what others have stay with the most: they are faults, not others."""
    found: dict[Value, list[Plane]] = {}
    for plane, value in zip(part.planes, values, strict=True):
        found.setdefault(value, []).append(plane)
    if len(found) == 1:
        return [part]
    most = max(found, key=lambda value: (all(value), len(found[value])))
    merged: dict[Value, list[Plane]] = {}
    for value, planes in found.items():
        is_wanting = not prefix and not all(value) and all(a == b for a, b in zip(value, most, strict=True) if a)
        merged.setdefault(most if is_wanting else value, []).extend(planes)
    if len(merged) == 1:
        return [part]
    differing = [k for k in range(len(most)) if len({value[k] for value in merged}) > 1]
    return [
        Part(tuple(planes), (*part.words, prefix + " ".join(value[k] for k in differing if value[k])))
        for value, planes in merged.items()
    ]
